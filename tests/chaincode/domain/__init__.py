"""Domain tests: values and verbs without storage, clock or caller."""
