"""The detector without a server: the steps of a model repository in this process."""
