"""Training a language model: the loop, its log, and a run put together."""
