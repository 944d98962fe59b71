"""The dispatcher: one loop that claims, hands out, settles, and looks after what was left behind."""
