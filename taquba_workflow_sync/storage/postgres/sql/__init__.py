"""What only this engine says in SQL: its owners, whose life is a session's."""
