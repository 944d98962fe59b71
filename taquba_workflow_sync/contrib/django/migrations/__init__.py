"""Migrations that change Django's state alone: no SQL is run."""
