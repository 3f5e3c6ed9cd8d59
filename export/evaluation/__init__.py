"""How well a trained network answers, against its controls and its baseline."""
