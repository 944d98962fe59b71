"""What must hold of a store's rows and counters, whatever engine has them."""
