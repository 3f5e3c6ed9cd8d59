"""Decode pictures to arrays, encode JPEG, and check polygons in a picture."""
