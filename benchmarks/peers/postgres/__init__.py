"""Peers that keep their work in a PostgreSQL database, on the same work, each in an environment of its own."""
