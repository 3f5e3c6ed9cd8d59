"""Labelled video: records that training and evaluation read, where they come from, what is wrong in them."""
