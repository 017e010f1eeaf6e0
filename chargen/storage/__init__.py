"""What lies on disk: checkpoints, whole files, where a run may write, the shipped models."""
