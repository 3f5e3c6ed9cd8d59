"""Activities that a camera is taught from a few examples, without training: tokens in, a linear layer out."""
