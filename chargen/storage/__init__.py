"""Files on disk: checkpoints, atomic writes, output folders and the shipped models."""
