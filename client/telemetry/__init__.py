"""What a detector tells OpenTelemetry, where the program has it."""
