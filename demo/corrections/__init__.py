"""Corrections: boxes that people put right on the page, proposed, and accepted by somebody else."""
