"""The one command: from annotated photos to what can be served, step after step."""
