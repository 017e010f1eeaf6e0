"""Models in other programs' formats, and checkpoints on a hub."""
