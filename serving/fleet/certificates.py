"""The gateway's certificate, and the authorities of its clients' certificates: PEM files.

Envoy takes what makes no sense without a word when it starts, and then closes each connection. So
all is tried here first: what OpenSSL can say about files, and a handshake in memory for the rest.
"""

import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import PrerequisiteError
from serving.fleet.followed import read_text

REASONS = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "EE_KEY_TOO_SMALL": "the key is too short: 2048 bits of RSA or more",
    "PEM lib": "one of them is damaged, or the key wants a password",
}


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, and its key, as PEM."""

    chain: str
    key: str = field(repr=False)


def read_pair(certificate: Path, key: Path) -> Pair:
    """The certificate that the gateway shows.

    Raises:
        PrerequisiteError: a file cannot be read, they do not belong together, or it is not valid.
    """
    pair = Pair(read_text(certificate), read_text(key))
    if "-----BEGIN CERTIFICATE-----" not in pair.chain:
        raise PrerequisiteError(f"{certificate} holds no certificate as PEM")
    if "PRIVATE KEY-----" not in pair.key:
        raise PrerequisiteError(f"{key} holds no private key as PEM")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password a key that wants one would ask on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
        _shake_hands(context, pair.chain)
    except OSError as error:  # ssl.SSLError is one
        raise PrerequisiteError(
            f"{certificate} and {key} are of no use: {_explain(error)}"
        ) from None
    return pair


def read_authorities(file: Path) -> str:
    """The authorities whose clients are let in, as PEM.

    Raises:
        PrerequisiteError: the file cannot be read, or holds none, or one that is not valid now.
    """
    text = read_text(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with suppress(ssl.SSLError):
        context.load_verify_locations(cadata=text)
    authorities = context.get_ca_certs()
    if not authorities:
        raise PrerequisiteError(f"{file} holds no certificate of an authority as PEM")
    for one in authorities:
        if ssl.cert_time_to_seconds(str(one["notAfter"])) < time.time():
            raise PrerequisiteError(f"{file}: an authority has expired, on {one['notAfter']}")
    return text


def _shake_hands(server: ssl.SSLContext, chain: str) -> None:
    """Let a client that trusts this very certificate see it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=chain)
    here, there = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(here, there), server.wrap_bio(there, here, server_side=True)]
    for end in ends * 2:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()


def _explain(error: OSError) -> str:
    """Why OpenSSL takes them for no certificate and key."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    known = (words for sign, words in REASONS.items() if sign in str(error))
    return next(known, error.strerror or str(error))
