"""The door for scripts and notebooks: one memory in one process, without a service around it."""
