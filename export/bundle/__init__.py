"""Write and read bundles and checkpoints; presets of networks."""
