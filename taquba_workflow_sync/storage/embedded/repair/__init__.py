"""Rows that cannot be worked on: recognised, shown, put right, or set aside."""
