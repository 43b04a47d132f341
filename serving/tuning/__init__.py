"""Settings for this machine, found by measuring."""
