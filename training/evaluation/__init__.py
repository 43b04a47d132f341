"""How good a network is: mAP, what became of each object, and the report."""
