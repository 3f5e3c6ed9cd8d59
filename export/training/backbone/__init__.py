"""Train the backbone."""
