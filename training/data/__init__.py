"""Annotated folders in the formats that people have, checked, and written as TFRecords."""
