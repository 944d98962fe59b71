"""A store moved from one engine to the other, and back."""
