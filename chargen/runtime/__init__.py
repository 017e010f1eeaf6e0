"""What depends on the machine: device, precision, random generators, signals, processes."""
