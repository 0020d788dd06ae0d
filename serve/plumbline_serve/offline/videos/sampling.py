"""Some frames of a video, evenly through its time; runs in the worker only, for libraries in C read what it is given.

Of N equal parts of the video's time it takes the frame that is shown in the middle of each, as PNG, which loses
nothing. Colours are those that the codec says, and pixels lie as they are coded: a rotation in the file is not applied.
"""

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from plumbline_models.core.errors import ImageTooLargeError, ImageUndecodableError

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,ivf,flv,ogg"
"""Containers that hold their frames themselves; playlists and the like name other files and addresses."""
SEEK_S = 10.0
"""A frame that is further ahead is looked for from the last key frame before it."""
PNG_EFFORT = 1  # zlib's least: frames are read again at once


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one video may take."""

    max_frame_pixels: int = 50_000_000
    max_decoded_pixels: int = 2**36
    """Of all frames that are decoded on the way: 33,000 of 1920 by 1080 pixels."""
    max_png_bytes: int = 2**28
    """Of the frames that are kept."""


def frames_of(file: Path | bytes, num_frames: int, bounds: Bounds) -> list[bytes]:
    """Frames as PNG, in their order; fewer different ones where the video has fewer.

    Args:
        file: Where it is, or what it holds.
        num_frames: How many; at least 1.
        bounds: What it may take.

    Raises:
        ImageUndecodableError: It is no video, or damaged.
        ImageTooLargeError: It takes more than is allowed.
    """
    try:
        with _opened(file) as source, av.open(source, "r", options={"format_whitelist": FORMATS}) as container:
            stream = next((each for each in container.streams.video if each.codec_context is not None), None)
            if stream is None:
                raise ImageUndecodableError("The file holds no video that is read.")
            stream.codec_context.thread_count = 1
            return _Sampler(container, stream, bounds).frames(num_frames)
    except FFmpegError as error:
        raise ImageUndecodableError(f"The video cannot be decoded: {error.strerror}.") from error
    except OSError as error:
        raise ImageUndecodableError(f"The video cannot be read: {error.strerror or type(error).__name__}.") from error
    except (ValueError, OverflowError) as error:
        raise ImageUndecodableError("The video cannot be decoded.") from error
    except MemoryError as error:
        raise ImageTooLargeError("The video takes more memory than is allowed.") from error


class _Sampler:
    def __init__(self, container: InputContainer, stream: VideoStream, bounds: Bounds) -> None:
        self._container = container
        self._stream = stream
        self._bounds = bounds
        self._num_decoded_pixels = 0

    def frames(self, num_frames: int) -> list[bytes]:
        start_s, length_s = self._span()
        found: list[bytes] = []
        decoded = self._decoded()
        shown = ahead = next(decoded, None)
        for index in range(num_frames):
            at_s = start_s + (index + 0.5) * length_s / num_frames
            if ahead is not None and at_s - _time(ahead) > SEEK_S and self._stream.time_base is not None:
                self._container.seek(int(at_s / self._stream.time_base), stream=self._stream)
                decoded = self._decoded()
                ahead = next(decoded, None)
            while ahead is not None and _time(ahead) <= at_s:
                shown, ahead = ahead, next(decoded, None)
            if shown is None:
                raise ImageUndecodableError("The video holds no frame that can be decoded.")
            found.append(_png(shown))
            if sum(map(len, found)) > self._bounds.max_png_bytes:
                raise ImageTooLargeError("The frames of the video have more bytes than are allowed.")
        return found

    def _span(self) -> tuple[float, float]:
        """When it begins, and seconds that it lasts; where the file does not say, its packets do."""
        stream, base = self._stream, float(self._stream.time_base or 0)
        start_s = (stream.start_time or 0) * base
        if stream.duration:
            return start_s, stream.duration * base
        if self._container.duration:
            return start_s, self._container.duration / av.time_base
        last = max((packet.pts for packet in self._container.demux(stream) if packet.pts is not None), default=0)
        self._container.seek(stream.start_time or 0, stream=stream)
        return start_s, max(0.0, last * base - start_s)

    def _decoded(self) -> Iterator[VideoFrame]:
        """Frames from where the container stands; damaged packets are passed over, as players do."""
        for packet in self._container.demux(self._stream):
            if packet.size:
                self._check(self._stream.codec_context.width * self._stream.codec_context.height)
            try:
                decoded = packet.decode()
            except InvalidDataError:
                continue
            for frame in decoded:
                if isinstance(frame, VideoFrame) and frame.time is not None:
                    self._check(frame.width * frame.height)
                    self._num_decoded_pixels += frame.width * frame.height
                    yield frame

    def _check(self, num_pixels: int) -> None:
        if num_pixels > self._bounds.max_frame_pixels:
            raise ImageTooLargeError("The frames of the video have more pixels than are allowed.")
        if self._num_decoded_pixels > self._bounds.max_decoded_pixels:
            raise ImageTooLargeError("The video has more to decode than is allowed.")


def _opened(file: Path | bytes) -> IO[bytes]:
    """A file that ends: devices and pipes do not.

    Raises:
        OSError: It cannot be read, or is no file.
    """
    if isinstance(file, bytes):
        return io.BytesIO(file)
    opened = open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
        opened.close()
        raise OSError(0, "Is no file")
    return opened


def _time(frame: VideoFrame) -> float:
    return float(frame.time or 0.0)


def _png(frame: VideoFrame) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame.to_ndarray(format="rgb24")).save(out, "PNG", compress_level=PNG_EFFORT)
    return out.getvalue()
