"""Time: wall clocks that step, machines that stand still, instants on the edge, clocks that misbehave."""
