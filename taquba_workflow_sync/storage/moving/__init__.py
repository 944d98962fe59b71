"""A store moved into an empty one of the other engine, row by row: what each engine does for it, and the order."""
