"""Frames become steps of the memory: pipeline of one stream, loop over a source."""
