"""The peers' own servers, in an environment of their own (requirements.txt)."""
