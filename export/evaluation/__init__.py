"""Evaluate a trained network against its controls and its baseline."""
