"""The loop from corrected photos to a released model: the other folders' commands in their order.

Nothing of the others is imported: what a step does its command does, and its output lies on disk.
"""
