"""The language model: its network, how it is trained and how it is measured."""
