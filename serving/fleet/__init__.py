"""Several servers, and a genuine Envoy in front of them."""
