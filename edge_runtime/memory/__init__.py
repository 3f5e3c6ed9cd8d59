"""What is remembered: tokens, online SVD, background, coverage, and who decides what stays."""
