"""Where a model repository lies: a folder, or objects in S3, Google's or Azure's storage."""
