"""Speed and accuracy, beside peers and bounds: a command a file; `results` is what they found."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
