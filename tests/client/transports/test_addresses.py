import pytest

from client import InvalidParameter
from client.transports.addresses import parse_addresses


@pytest.mark.parametrize(
    ("text", "scheme", "authority", "path"),
    [
        ("127.0.0.1:8001", "grpc", "127.0.0.1:8001", ""),
        ("[::1]:8001", "grpc", "[::1]:8001", ""),
        ("triton:8001", "grpc", "triton:8001", ""),
        ("grpc://triton:8001", "grpc", "triton:8001", ""),
        ("grpcs://triton", "grpcs", "triton:443", ""),
        ("grpcs://triton:8001", "grpcs", "triton:8001", ""),
        ("http://triton:8000", "http", "triton:8000", ""),
        ("http://[::1]:8000/", "http", "[::1]:8000", ""),
        ("https://example.org", "https", "example.org:443", ""),
        ("https://example.org/cells/", "https", "example.org:443", "/cells"),
    ],
)
def test_an_address_is_host_and_port_or_a_url(
    text: str, scheme: str, authority: str, path: str
) -> None:
    (address,) = parse_addresses(text)
    assert (address.scheme, address.authority, address.path) == (scheme, authority, path)
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "protocol", "encrypted"),
    [
        ("a:1", "gRPC", False),
        ("grpcs://a:1", "gRPC", True),
        ("http://a:1", "HTTP", False),
        ("https://a:1", "HTTP", True),
    ],
)
def test_the_scheme_says_the_protocol_and_whether_it_is_encrypted(
    text: str, protocol: str, encrypted: bool
) -> None:
    (address,) = parse_addresses(text)
    assert (address.protocol, address.is_encrypted) == (protocol, encrypted)


@pytest.mark.parametrize("several", ["a:1,http://b:2", " a:1 , http://b:2", ["a:1", "http://b:2"]])
def test_several_are_a_list_or_separated_by_commas(several: str | list[str]) -> None:
    assert [str(address) for address in parse_addresses(several)] == ["a:1", "http://b:2"]


WRONG = ["", "127.0.0.1", ":8001", "a b:1", "::1:8001", "host:port", "a:0", "a:65536", "a:1,"]
WRONG += ["ftp://a:1", "grpc://a", "grpc://a:1/path", "http://", "http://me@a:1", "http://a:1/?b"]


@pytest.mark.parametrize("text", WRONG)
def test_anything_else_is_refused_with_what_it_was(text: str) -> None:
    with pytest.raises(InvalidParameter, match="must be host:port of Triton's gRPC port, such as"):
        parse_addresses(text)


def test_none_at_all_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="the list is empty"):
        parse_addresses([])
