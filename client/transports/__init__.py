"""From here to a server: addresses, gRPC or HTTP, deadlines, retries, TLS and keys."""
