"""The embedded server: a genuine tritonserver without Docker, started, watched and ended."""

from serving.server.server import EmbeddedServer, ServerSettings

__all__ = ["EmbeddedServer", "ServerSettings"]
