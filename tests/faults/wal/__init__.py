"""No checkpoint overlaps a commit: proven from the record of every lock, write and sync of several processes."""
