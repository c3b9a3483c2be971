"""Texts and baskets in, plain results out: NumPy and the standard library alone, but for `frames`."""
