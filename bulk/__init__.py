"""The command `python -m bulk`: detection over a folder or bucket of millions of photos."""
