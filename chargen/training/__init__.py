"""Training: the loop and its tasks, optimizers, logs, and complete runs of language models."""
