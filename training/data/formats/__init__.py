"""Readers of annotated folders, a format each, and what all of them build on.

The readers are our own, because the libraries for it stop a whole folder at its first flaw, move
all four edges of VOC's boxes, pass `difficult` and EXIF over, and number classes by chance.
"""
