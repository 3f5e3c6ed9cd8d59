"""The papers' own networks."""
