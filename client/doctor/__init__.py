"""The command `doctor`: what is right and wrong with a server."""
