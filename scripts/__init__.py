"""What a person types: one verb per file without an ending; `story` is what `demo` plays and the benchmarks build on.

Nothing of the product imports this package.
"""
