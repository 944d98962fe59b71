"""The engine for several machines: the store is a schema of a PostgreSQL database."""
