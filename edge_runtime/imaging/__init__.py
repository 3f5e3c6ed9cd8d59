"""Pictures as arrays: decode files, encode JPEG, polygons in a picture."""
