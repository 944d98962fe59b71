"""The port: what an engine makes durable, as records, pure rules, and the protocol that ties them together."""
