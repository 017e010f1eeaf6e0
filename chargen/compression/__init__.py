"""Files of as few bits as a model says that they have."""

SUFFIX = ".chargen"
"""What the names of compressed files end in."""
