"""From annotated photos to an artifact: Pascal VOC -> TFRecord -> SSD -> evaluation -> export.

The folder ends at an artifact (`export.py` says what is in one) and knows nothing of serving.
"""
