"""A real Prometheus and Alertmanager with the shipped rules, and what they say of a fleet."""
