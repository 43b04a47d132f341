"""The frames of a video file, one and all, or of a camera, always the newest.

A camera is named by whoever runs the program. A file may be anybody's: it is known by its first
bytes, its name means nothing, and a process of its own reads it (`client.frames.reader`).
"""

from client.frames.camera import Camera, Capture
from client.frames.quiet import quiet
from client.frames.source import Frame, Source
from client.frames.video_file import VideoFile

__all__ = ["Camera", "Capture", "Frame", "Source", "VideoFile", "quiet"]
