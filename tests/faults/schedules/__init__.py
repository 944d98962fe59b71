"""Every interleaving of two or three actors on one store, up to a bound, each judged against the serial orders."""
