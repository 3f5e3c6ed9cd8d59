"""Bundles and checkpoints: written, read, and their presets."""
