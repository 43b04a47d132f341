"""The process that reads one video for `client.frames.VideoFile`, with FFmpeg.

A process of its own, because a file of 1 KB may claim a hundred million frames, and FFmpeg makes
room for each: here that ends at a limit, and takes nobody along. It gets the file open, never its
name, and opens no other, whatever the file tells it to.

In:  the file as standard input; arguments KIND PIXELS MEMORY SECONDS: FFmpeg's name of the
     container, the most pixels of a frame, bytes of memory and seconds that it may take, 0: any.
Out: a line of JSON {"fps", "total", "width", "height"}; then for each frame a line
     {"seconds", "width", "height", "stride", "turn"} and height * stride bytes, rows of BGR.
     "turn": quarters, counterclockwise, until it is upright. Less where the file is damaged.
"""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

import av


def main(kind: str, pixels: str, memory: str, seconds: str) -> None:
    """Write what there is of the video on the standard input."""
    set_limits(int(memory), int(seconds))
    with av.open(sys.stdin.buffer, "r", format=kind, io_open=refuse) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            return
        stream.codec_context.options = {"max_pixels": pixels}  # their size may change on the way
        write_line(about(container, stream))
        for number, frame in enumerate(frames(container, stream)):
            write_frame(frame, shown(frame, stream, number))


def set_limits(memory: int, seconds: int) -> None:
    """End this process where it takes more bytes or longer, on systems that can do that."""
    with suppress(ImportError, ValueError):  # Windows has none; there may be a lower one already
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        signal.alarm(seconds)


def refuse(url: str, *_: Any) -> NoReturn:
    """Stand in for FFmpeg's way to open further files: a MOV may have its pictures elsewhere."""
    raise PermissionError(url)


def about(container: av.container.InputContainer, stream: av.VideoStream) -> dict[str, Any]:
    """What the file says of itself; 0 where it says nothing."""
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    lasts = (container.duration or 0) / av.time_base
    total = stream.frames or round(lasts * fps)
    return {"fps": fps, "total": total, "width": stream.width, "height": stream.height}


def frames(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """All that can be decoded: damage costs the frames it hits, and the rest where it cuts off."""
    with suppress(av.FFmpegError):
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):
                yield from packet.decode()


def shown(frame: av.VideoFrame, stream: av.VideoStream, number: int) -> float:
    """When a frame is shown, since the beginning."""
    if frame.pts is None or stream.time_base is None:
        return number / float(stream.average_rate or 1)
    return float((frame.pts - (stream.start_time or 0)) * stream.time_base)


def write_frame(frame: av.VideoFrame, seconds: float) -> None:
    """Write a frame's line, and its rows with what pads them."""
    plane = frame.reformat(format="bgr24").planes[0]
    write_line(
        {
            "seconds": seconds,
            "width": frame.width,
            "height": frame.height,
            "stride": plane.line_size,
            "turn": round(frame.rotation / 90),
        }
    )
    sys.stdout.buffer.write(plane)
    sys.stdout.buffer.flush()


def write_line(line: dict[str, Any]) -> None:
    """Write a line of JSON, at once."""
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
