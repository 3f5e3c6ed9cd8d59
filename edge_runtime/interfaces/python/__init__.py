"""The Python API: a memory in a script or a notebook, without a service."""
