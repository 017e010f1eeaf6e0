"""Texts with labels: read, learnt from, predicted, explained."""
