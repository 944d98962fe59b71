"""The laboratory over a server: what a network, a server and its replicas do to the processes of a fleet."""
