"""One bucket or a part of it: `client.bucket`, whose errors are this package's here."""

from client.bucket import bucket
from serving.errors import MissingFileError, StoreError


class Bucket(bucket.Bucket):
    """The objects under an address. Every method raises StoreError or MissingFileError."""

    failed = StoreError
    missing = MissingFileError
