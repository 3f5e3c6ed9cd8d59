"""Run a whole stream through one set of engines and ask it questions."""
