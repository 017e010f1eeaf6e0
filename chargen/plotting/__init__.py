"""Pictures of runs and figures: read from metrics, drawn to files, terminals and event logs."""
