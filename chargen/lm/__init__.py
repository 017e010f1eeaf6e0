"""The language model: network, batches, recipes, evaluation and checkpoints."""
