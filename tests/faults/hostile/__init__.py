"""Hostile or broken input: whatever a caller passes, and whatever a disk, a hand or another program left behind."""
