"""Where traces go: a receiver of OpenTelemetry's protocol, OTLP, by HTTP."""

from client.errors import InvalidParameter
from client.transports.addresses import Address, parse_addresses
from serving.errors import PrerequisiteError

TRACES = "/v1/traces"  # below the address, as OpenTelemetry's specification has it


def parse_receiver(url: str) -> Address:
    """Return the address of a receiver, such as http://127.0.0.1:4318.

    Raises:
        PrerequisiteError: it is not a single URL that begins with http://.
    """
    try:
        addresses = parse_addresses(url)
    except InvalidParameter:
        addresses = []
    if len(addresses) != 1 or addresses[0].scheme != "http":
        raise PrerequisiteError(
            "--otlp-endpoint must be the URL of one receiver of OTLP by HTTP, such as "
            f"http://127.0.0.1:4318, found {url!r}. For https:// run a collector here that sends "
            "on what it receives"
        )
    return addresses[0]


def make_trace_options(url: str, instance: str) -> list[str]:
    """What makes tritonserver send spans of the requests that bring a traceparent, of no others.

    Args:
        url: the receiver's.
        instance: which of several servers it is, such as its address.
    """
    receiver = parse_receiver(url)
    settings = [
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        "rate=0",  # of requests without one
        f"opentelemetry,url=http://{receiver.authority}{receiver.path}{TRACES}",
        "opentelemetry,resource=service.name=ssd-server",
        f"opentelemetry,resource=service.instance.id={instance}",
    ]
    return [f"--trace-config={setting}" for setting in settings]
