"""The fault laboratory: what breaks the promise of the guarantees, injected on purpose, and one checker."""
