"""The machine and the process: logs, secrets, systemd, malloc, text."""
