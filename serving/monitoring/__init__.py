"""What the world sends: live figures from Prometheus, judged beside a version's reference."""
