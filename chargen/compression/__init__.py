"""Lossless compression of files with a model's probabilities."""

SUFFIX = ".chargen"
"""Suffix of compressed files."""
