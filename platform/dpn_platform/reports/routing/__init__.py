"""How a router routed."""
