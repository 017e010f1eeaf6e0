"""Export models to other programs' formats, and exchange checkpoints with a hub."""
