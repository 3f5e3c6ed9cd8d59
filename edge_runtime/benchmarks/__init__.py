"""Measure speed on this machine: engines side by side, and several cameras."""
