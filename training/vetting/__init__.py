"""Whether new annotations can be believed: judged by the live network, beside trusted ones."""
