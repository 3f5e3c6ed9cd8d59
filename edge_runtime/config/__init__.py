"""Hold the configuration: its schema, its YAML reader and the default paths."""
