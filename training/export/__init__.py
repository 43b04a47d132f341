"""From a run to an artifact: ONNX, its graph made simpler, other precisions of it, LiteRT."""
