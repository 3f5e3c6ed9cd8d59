"""One protocol over execution backends, and the bundle that they run."""
