"""Settings of what a request may carry, and of how its images are read."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field

from plumbline_serve.settings.access import Section

_RAW_CHANNELS = 4  # at most: with transparency
_FORM_OVERHEAD_BYTES = 2**16  # one item's text and a form's boundaries
_PIXELS = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(MP|MPX|KP|P)?\s*$", re.IGNORECASE)
_PIXEL_UNITS = {"MP": 10**6, "MPX": 10**6, "KP": 10**3, "P": 1, "": 1}


def _parse_pixels(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _PIXELS.match(value)
    if match is None:
        raise ValueError("not a number of pixels, such as 50MP or 50000000")
    return int(float(match[1]) * _PIXEL_UNITS[(match[2] or "").upper()])


PixelCount = Annotated[int, BeforeValidator(_parse_pixels), Field(gt=0)]


class ImageSettings(Section):
    """How image files become pixels."""

    exif_orientation: Literal["apply", "ignore"] = "apply"
    """Whether the camera's orientation tag turns the image. The papers' own programs ignore it."""
    alpha: Literal["white", "drop"] = "white"
    """Whether transparency is composited on white or dropped. The papers' own programs drop it."""
    jpeg_decoder: Literal["cpu", "nvjpeg"] = "cpu"
    """Who decodes JPEGs of usual kinds in the fused layout. `nvjpeg`: the GPU, in a process of its own, within 5 of 255
    of the CPU's pixels; the CPU where it fails, and for deterministic requests. Needs the extra `gpu`."""

    @property
    def conventions(self) -> Mapping[str, str]:
        """What of these values depend on, by setting; of the decoder only where it is another than ever."""
        named = {"exif_orientation": self.exif_orientation, "alpha": self.alpha}
        return named if self.jpeg_decoder == "cpu" else {**named, "jpeg_decoder": self.jpeg_decoder}


class Limits(Section):
    """What one request may carry, and all requests together."""

    max_items: int = Field(default=256, ge=1)
    """Items per request. Each image or text of `/v1/rank` and `/v1/embed` counts as an item."""
    max_questions: int = Field(default=2048, ge=1)
    """Questions per request, of all its items together."""
    max_frames: int = Field(default=1024, ge=1)
    """Frames of videos per request, of all its items together."""
    max_image_bytes: ByteSize = Field(default=ByteSize(20 * 2**20), ge=1)
    """Bytes of one image file, as sent. Raw pixels are bounded by `max_pixels` instead."""
    max_pixels: PixelCount = 50 * 10**6
    """Pixels of one image, read from its header before it is decoded. Bounds raw pixels as well."""
    max_decode_s: float = Field(default=10.0, gt=0)
    """Seconds of CPU time that one image may take to decode, and six times as many by the clock, if it is neither a
    JPEG, nor a PNG, nor a WebP of usual kind: such are decoded in a process of their own, which is ended then."""
    max_request_bytes: ByteSize = Field(default=ByteSize(64 * 2**20), ge=1)
    """Bytes of one request body. A form or a gRPC message may always hold one raw image of `max_pixels`."""
    max_bytes_in_flight: ByteSize = Field(default=ByteSize(512 * 2**20), ge=1)
    """Bytes of all requests under way in one gateway, REST and gRPC together. Further ones get 503."""
    max_text_chars: int = Field(default=4096, ge=1)
    """Characters of one text."""
    max_wait_ms: float = Field(default=2000.0, gt=0)
    """Milliseconds that a request without a deadline may wait for others. One that would wait longer gets 429."""
    max_upload_s: float = Field(default=60.0, gt=0)
    """Seconds in which the body of a REST request, or the message of a gRPC call, must arrive."""
    max_connections: int = Field(default=4096, ge=1)
    """Connections to the REST port at a time, and a quarter as many to the gRPC port. Further ones wait."""
    max_connections_per_address: int = Field(default=512, ge=0)
    """Connections of one address to each port at a time. Further ones are closed. 0 behind a proxy: no bound."""
    max_new_connections_per_address: int = Field(default=2000, ge=0)
    """Connections that one address may open to each port in 10 s. Further ones are closed. 0 behind a proxy: no bound.
    """

    @property
    def max_form_bytes(self) -> int:
        """Bytes of a form or a gRPC message: one image may always come as raw pixels, if its file may."""
        return max(int(self.max_request_bytes), _RAW_CHANNELS * self.max_pixels + _FORM_OVERHEAD_BYTES)
