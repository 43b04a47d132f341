"""Labelling with the model that there is: its boxes to begin with, and which photos come first."""
