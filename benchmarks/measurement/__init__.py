"""How it is measured: in turns, on which machine and photos; figures of speed and mAP."""
