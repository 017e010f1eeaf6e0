"""Machine-dependent parts: device, precision, random generators, signals, processes."""
