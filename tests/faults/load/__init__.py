"""Load: an hour of it with kills, and runners, payloads and threads that ask for too much."""
