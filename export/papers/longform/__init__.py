"""Long-form video understanding: what a whole video is, told from minutes of tokens at once (S5)."""
