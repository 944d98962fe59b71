"""How a transition becomes durable: one small port, one package per engine."""
