"""Plots of runs and results: read from metrics, drawn to files, terminals and event logs."""
