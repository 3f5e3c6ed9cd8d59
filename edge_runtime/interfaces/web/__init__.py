"""The web page: its files, and the routes that feed it. Everything comes from this machine."""
