"""Two runs beside each other: their settings, and what each finds on the same photos."""
