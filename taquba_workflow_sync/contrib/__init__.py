"""What joins the library to others: each module needs an extra of its own, and the core imports none of them."""
