"""What of each feature can be read: over one connection, changing nothing."""
