"""The training loop: steps, averages, prefetch, processes."""
