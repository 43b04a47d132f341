"""A program without OpenTelemetry, or without a provider: nothing is imported, nothing is sent."""

import subprocess
import sys

import pytest

from tests.client.conftest import Service

DETECT = """
import sys
{before}
from client import Detector
with Detector("{url}") as detector:
    detector.detect(b"a photo")
print(sorted(name for name in sys.modules if name in {names}))
"""
NAMES = ["client.telemetry.audience", "client.telemetry.spans", "opentelemetry"]
MISSING = """
class Missing:
    def find_spec(self, name, *_):
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""
PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""


def detect(service: Service, before: str) -> str:
    """Run a program that detects something. Returns what it printed."""
    program = DETECT.format(before=before, url=service.url, names=NAMES)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", MISSING], ids=["installed", "not installed"])
def test_a_program_without_opentelemetry_is_not_given_it(service: Service, before: str) -> None:
    assert detect(service, before) == str(NAMES[:1])
    assert "traceparent" not in service.headers[-1]


@pytest.mark.slow
def test_without_a_provider_nothing_is_sent(service: Service) -> None:
    assert detect(service, "import opentelemetry.trace, opentelemetry.metrics") == str(NAMES)
    assert "traceparent" not in service.headers[-1]


@pytest.mark.slow
def test_an_opentelemetry_that_is_too_old_stops_no_detection(service: Service) -> None:
    old = """
from opentelemetry import metrics
type(metrics.get_meter("")).create_histogram = lambda self, name, unit="", description="": None
"""
    assert detect(service, PROVIDER + old) == str([NAMES[0], NAMES[2]])
    assert "traceparent" not in service.headers[-1]


@pytest.mark.slow
def test_a_provider_is_enough(service: Service) -> None:
    assert detect(service, PROVIDER) == str(NAMES)
    assert service.headers[-1]["traceparent"].startswith("00-")


@pytest.mark.slow
def test_what_is_not_sampled_sends_nothing(service: Service) -> None:
    """Triton 2.51 would trace a request with a traceparent, whatever it says of sampling."""
    never = PROVIDER.replace("TracerProvider()", "TracerProvider(sampler=sampling.ALWAYS_OFF)")
    detect(service, "from opentelemetry.sdk.trace import sampling" + never)
    assert "traceparent" not in service.headers[-1]
