"""Detect objects in photos with a Triton server that serves this project's ensemble.

    from client import Detector

    with Detector("127.0.0.1:8001") as detector:
        for detection in detector.detect("photo.jpg").detections:
            print(detection.label, detection.score, detection.box)

Needs numpy and tritonclient[grpc] only; http:// addresses, arrays as input, `client.drawing` and
the command line need the rest of the extra `client`. `LocalDetector` needs no server, but the extra
`local`.
"""

from client.async_detector import AsyncDetector
from client.detection import Box, Detection, Result
from client.detector import Detector
from client.errors import (
    DeadlineExceeded,
    DetectorError,
    InvalidImage,
    InvalidParameter,
    ServerError,
    ServerUnavailable,
)
from client.local.detector import LocalDetector
from client.transports.security import Security

__all__ = [
    "AsyncDetector",
    "Box",
    "DeadlineExceeded",
    "Detection",
    "Detector",
    "DetectorError",
    "InvalidImage",
    "InvalidParameter",
    "LocalDetector",
    "Result",
    "Security",
    "ServerError",
    "ServerUnavailable",
]
