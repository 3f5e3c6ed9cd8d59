"""HTTP routes, one module a kind."""
