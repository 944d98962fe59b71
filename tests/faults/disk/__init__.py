"""The disk is full, or read-only, or answers with an error: what callers are told, what is stored, what goes on."""
