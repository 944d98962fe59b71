"""What a relational engine is made of: its statements, the transitions and reads made of them, group commit."""
