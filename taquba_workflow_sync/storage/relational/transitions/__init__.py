"""One file for each transition, named as in the table of ``storage.port.transitions``."""
