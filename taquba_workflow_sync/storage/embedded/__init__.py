"""The embedded engine: one SQLite file, diskcache's own, shared by the processes of one machine."""
