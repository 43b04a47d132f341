import pytest
from distributed import Client, Security

from bulk.engine import open_workers


def test_a_stranger_gets_nothing_from_the_workers_ports() -> None:
    with open_workers(None, 0) as client:
        address = client.scheduler_info()["address"]
        assert address.startswith("tls://127.0.0.1:")
        with pytest.raises(OSError, match="TLS certificate does not match"):
            Client(address, security=Security.temporary(), timeout=1, set_as_default=False)
