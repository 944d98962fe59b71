"""Measurements of this library, of the floor below it and of its peers: `python -m benchmarks`."""
