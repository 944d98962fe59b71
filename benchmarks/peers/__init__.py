"""What a user would pick instead, on the same work: one script per peer, each run in an environment of its own."""
