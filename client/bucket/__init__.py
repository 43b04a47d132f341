"""Buckets: S3 and what speaks its protocol, Google, Azure. Needs obstore, of the extra `bucket`."""
