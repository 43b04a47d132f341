"""Small videos made by OpenCV, and pictures that carry a number through JPEG and video codecs."""

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (128, 96)  # width, height
STEP = 12  # levels of grey from one number to the next; two codecs in a row take off up to 7
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}


def numbered(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a grey picture that stands for a number from 0 to 19."""
    return np.full((size[1], size[0], 3), STEP * number + 16, np.uint8)


def number_of(picture: np.ndarray) -> int:
    """Return the number that a picture stands for."""
    return round((picture.mean() - 12) / STEP)


def save_clip(path: Path, pictures: Sequence[np.ndarray], fps: float = 10) -> Path:
    """Write pictures as a video; the suffix says of which kind."""
    height, width = pictures[0].shape[:2]
    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    file = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (width, height))
    for picture in pictures:
        file.write(picture)
    file.release()
    return path


def read_clip(path: Path) -> list[np.ndarray]:
    """Return a video's pictures."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    pictures = []
    while (frame := capture.read())[0]:
        pictures.append(frame[1])
    return pictures


def turned_clip(mp4: bytes) -> bytes:
    """Return the video with a matrix that says: turn me a quarter clockwise.

    ISO/IEC 14496-12, section 8.3.2: nine numbers of 32 bits, 40 bytes after the header's version.
    """
    start = mp4.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = [0, one, 0, -one, 0, 0, 0, 0, 1 << 30]
    return mp4[:start] + b"".join(n.to_bytes(4, signed=True) for n in matrix) + mp4[start + 36 :]


def misleading(private: Path) -> dict[str, bytes]:
    """Return by name what FFmpeg takes for a video as well, and would read others for."""
    where = private.as_uri()
    pictures = cv2.imencode(".png", numbered(0))[1].tobytes()
    return {
        "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%b\n#EXT-X-ENDLIST\n"
        % where.encode(),
        "concat": f"ffconcat version 1.0\nfile '{private.name}'\n".encode(),
        "concat, absolute": f"ffconcat version 1.0\nfile '{private}'\n".encode(),
        "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\n"
        b"m=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "DASH": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet>'
            '<Representation id="1" bandwidth="1" mimeType="video/avi">'
            f"<BaseURL>{where}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        ).encode(),
        "one picture of many": pictures,
    }


def elsewhere(mp4: bytes, name: bytes) -> bytes:
    """Return the video with its pictures blanked, and said to be in another file of this name.

    QuickTime File Format, "Data Reference Atoms": an entry of type `alis` is a Mac OS alias record,
    whose field 2 is the path.
    """
    length = len(name).to_bytes(2) + name + bytes(len(name) % 2)
    alias = bytes(10) + b"\x03vol".ljust(28, b"\0") + bytes(12)
    alias += bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + b"\0\1\0\1" + bytes(16) + b"\0\2" + length + b"\xff\xff\0\0"
    entry = (12 + len(alias)).to_bytes(4) + b"alis" + bytes(4) + alias
    start = mp4.index(b"url ", mp4.index(b"dref")) - 4
    made = bytearray(mp4[:start] + entry + mp4[start + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = mp4.index(box) - 4
        made[at : at + 4] = (int.from_bytes(mp4[at : at + 4]) + len(entry) - 12).to_bytes(4)
    media = made.index(b"mdat")
    end = media - 4 + int.from_bytes(made[media - 4 : media])
    made[media + 4 : end] = bytes(end - media - 4)
    return bytes(made)


def boasting(mp4: bytes, frames: int) -> bytes:
    """Return the video with tables that claim so many frames, of one byte each.

    ISO/IEC 14496-12, sections 8.6.1.2, 8.7.3.2 and 8.7.4.
    """
    made = bytearray(mp4)
    count = frames.to_bytes(4)
    for table, offset, value in ((b"stsz", 8, b"\0\0\0\1"), (b"stsz", 12, count),
                                 (b"stts", 12, count), (b"stsc", 16, count)):  # fmt: skip
        at = mp4.index(table) + offset
        made[at : at + 4] = value
    return bytes(made)


def growing(path: Path, pictures: Sequence[np.ndarray], step: int = 1) -> Path:
    """Write pictures of any sizes as a video that bears the size of the first.

    step: tenths of a second that each is shown.
    """
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p"
        for number, picture in enumerate(pictures):
            packet = av.Packet(cv2.imencode(".jpg", picture)[1].tobytes())
            packet.stream, packet.pts, packet.dts = stream, number * step, number * step
            container.mux(packet)
    return path
