"""What is measured: the bare pipeline, the ensemble, the peers, and what their processes cost."""
