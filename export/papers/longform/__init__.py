"""Long-form video understanding: labels of a whole video, from minutes of tokens at once (S5)."""
