"""What only `serving up` knows, as metrics; and live figures from Prometheus, judged beside a
version's reference."""
