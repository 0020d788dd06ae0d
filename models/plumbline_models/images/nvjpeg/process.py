"""A process that decodes JPEGs for another one by nvImageCodec, which calls nvJPEG on a GPU.

It is told how on its command line, and talks over the socket that is its standard input. A batch comes as the number of
its files, and each file behind its sizes. The answer has, for each, whether it was decoded. Pixels lie then in memory
that both share, each image's where the sizes of those before it say: through a socket they would cost half of what
libjpeg-turbo takes for them.

Its work is not done in the process that has the engines, for a file that makes a kernel fail leaves the CUDA context of
its process unusable, and nvJPEG is not the decoder of every browser. Nothing bounds this process's memory: CUDA
reserves more addresses than any image takes. What the other one sends is bounded instead.
"""

import importlib
import json
import mmap
import resource
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.decoder_process import end_with, receive_all

READY: Final = b"R"
"""Else it says why it cannot start, and ends."""
COUNT: Final = struct.Struct("<I")
FILE: Final = struct.Struct("<QII")
"""Its bytes, and the height and width of its pixels."""
DECODED: Final = b"\1"
NOT_DECODED: Final = b"\0"

OPTIONS: Final = ":fancy_upsampling=1 nvjpeg_cuda_decoder:hybrid_huffman_threshold=0 nvjpeg_cuda_decoder:extra_flags=4"
"""Of nvImageCodec's decoders: chroma is interpolated, as libjpeg does; all of a baseline JPEG is decoded on the GPU;
and what breaks the standard is an error (NVJPEG_FLAGS_BITSTREAM_STRICT)."""
MAX_BATCH_PIXELS: Final = 32 * 10**6
"""Pixels of a batch: coefficients, planes and pixels are about 15 bytes of the GPU's memory for each."""
SHARED_BYTES: Final = 3 * MAX_BATCH_PIXELS
_NUM_THREADS: Final = 4
"""That feed the GPU, and decode the entropy code of progressive files."""


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """How the process decodes."""

    device: int | None
    """Of CUDA. None: the CPU, by the libjpeg-turbo that nvImageCodec has with it."""
    parent: int
    """The process that it works for."""
    shared: int
    """File descriptor of the memory that both share, of `SHARED_BYTES`."""
    options: str = OPTIONS


@dataclass(frozen=True, slots=True)
class JpegFile:
    """A file and the size that its pixels must have."""

    data: bytes
    height: int
    width: int


Codec: TypeAlias = Callable[[Sequence[JpegFile]], list[Pixels | None]]
"""Decodes a batch; None in the place of what it does not decode."""


def arguments(options: CodecOptions) -> list[str]:
    """What `main` reads."""
    return [json.dumps(asdict(options))]


def share(descriptor: int) -> NDArray[np.uint8]:
    """Open the memory that both processes share.

    Args:
        descriptor: Of the file that it is.
    """
    return np.frombuffer(mmap.mmap(descriptor, SHARED_BYTES), np.uint8)


def places(shared: NDArray[np.uint8], files: Sequence[JpegFile]) -> Iterator[Pixels]:
    """Where the pixels of each file of a batch lie.

    Args:
        shared: The memory.
        files: The batch, of no more pixels than `MAX_BATCH_PIXELS`.
    """
    start = 0
    for file in files:
        end = start + 3 * file.height * file.width
        yield shared[start:end].reshape(file.height, file.width, 3)
        start = end


def open_codec(options: CodecOptions) -> Codec:
    """Make a decoder of nvImageCodec.

    Of all its decoders one is allowed: that of CUDA. With the hardware's beside it, or the CPU's, an image's pixels
    would depend on how much each has to do.

    Raises:
        ImportError: nvImageCodec is not installed.
        RuntimeError: There is no such device, or no driver.
    """
    codec: Any = importlib.import_module("nvidia.nvimgcodec")
    kind = codec.BackendKind.CPU_ONLY if options.device is None else codec.BackendKind.HYBRID_CPU_GPU
    decoder = codec.Decoder(
        device_id=codec.NVIMGCODEC_DEVICE_CPU_ONLY if options.device is None else options.device,
        max_num_cpu_threads=_NUM_THREADS,
        backends=[codec.Backend(kind)],
        options=options.options,
    )
    params = codec.DecodeParams(apply_exif_orientation=False, color_spec=codec.ColorSpec.SRGB)

    def decode(files: Sequence[JpegFile]) -> list[Pixels | None]:
        images = decoder.decode([codec.CodeStream(file.data) for file in files], params=params)
        return [_pixels(image, file) for image, file in zip(images, files, strict=True)]

    return decode


def _pixels(image: Any, file: JpegFile) -> Pixels | None:
    """Copied from the GPU; None where they are not what the file's header announced."""
    if image is None:
        return None
    pixels = np.ascontiguousarray(image.cpu())
    return pixels if pixels.shape == (file.height, file.width, 3) and pixels.dtype == np.uint8 else None


def main() -> None:
    """Decode what comes until nothing comes any more."""
    options = CodecOptions(**json.loads(sys.argv[1]))
    end_with(options.parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=0) as connection:
        try:
            decode = open_codec(options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other process tells of it
            connection.sendall(repr(error).encode())
            return
        connection.sendall(READY)
        shared = share(options.shared)
        while (files := _receive(connection)) is not None:
            decoded = decode(files)
            for place, pixels in zip(places(shared, files), decoded, strict=True):
                if pixels is not None:
                    np.copyto(place, pixels)
            connection.sendall(b"".join(NOT_DECODED if pixels is None else DECODED for pixels in decoded))
            del decoded


def _receive(connection: socket.socket) -> list[JpegFile] | None:
    try:
        (count,) = COUNT.unpack(receive_all(connection, COUNT.size))
        heads = [FILE.unpack(receive_all(connection, FILE.size)) for _ in range(count)]
        return [JpegFile(bytes(receive_all(connection, head[0])), height=head[1], width=head[2]) for head in heads]
    except (EOFError, OSError):
        return None


if __name__ == "__main__":
    main()
