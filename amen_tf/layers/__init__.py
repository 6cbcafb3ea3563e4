"""Keras layers of AMEN, one per file. Masks are boolean everywhere: True = real."""
