"""The configuration file: its schema, its reader, and the paths of a machine."""
