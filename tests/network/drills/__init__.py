"""Drills: what may go wrong on an ordinary day, done to a real network process. Nothing here looks inside it."""
