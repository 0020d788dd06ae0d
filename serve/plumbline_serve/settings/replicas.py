"""Settings of what computes: replicas, the batches they share, the engines they run, and what they keep."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field

from plumbline_models.core.protocols import EncoderKind
from plumbline_serve.settings.access import Section
from plumbline_serve.settings.groups import Gpus


class BatchSettings(Section):
    """How requests share batches."""

    max_batch: int = Field(default=64, ge=1)
    """Inputs of typical size per batch, which engines are also built for. An encoder may take fewer."""
    adaptive: bool = True
    """Keep batches smaller than that where larger ones compute hardly more a second, as learnt while serving."""
    max_queued_items: int = Field(default=4096, ge=1)
    """Inputs that may wait for one encoder, whatever their deadlines. Further ones are refused with 429, but those of
    keys and requests that have less than an equal part of them waiting: up to twice as many in all."""
    max_linger_ms: float = Field(default=10.0, ge=0)
    """Milliseconds at most that a batch waits for inputs still being decoded, and only where that saves time."""


class CacheSettings(Section):
    """What each gateway keeps of past requests. The least recently used is dropped first; 0 keeps nothing."""

    image_bytes: ByteSize = ByteSize(64 * 2**20)
    """Bytes of image encodings. A known image is neither decoded nor encoded again."""
    text_bytes: ByteSize = ByteSize(32 * 2**20)
    """Bytes of text encodings. A known text is neither tokenised nor encoded again."""
    pair_bytes: ByteSize = ByteSize(32 * 2**20)
    """Bytes of encodings of an image with a text: F-CLIPScore's attributions, VQAScore's answers."""
    caption_bytes: ByteSize = ByteSize(64 * 2**20)
    """Bytes of F-CLIPScore's matrices of captions that meet many images, kept beside the encoder."""

    @property
    def max_bytes_by_kind(self) -> dict[EncoderKind, int]:
        """Bytes by kind of encoding."""
        return {"image": int(self.image_bytes), "text": int(self.text_bytes), "pair": int(self.pair_bytes)}


class EngineSettings(Section):
    """Compiled engines: where they come from, and which sizes they are built for."""

    dir: Path | None = None
    """Folder of engines from `plumbline compile --out`. Looked up before the cache, never written to."""
    calibration_dir: Path | None = None
    """Folder of 16 or more images like those to be scored. `int8` and `fp8` are calibrated on the first 128."""
    typical: dict[str, Annotated[int, Field(ge=1)]] = {}  # noqa: RUF012 - pydantic copies it
    """Sizes that TensorRT tunes engines to, by dimension: `batch`, `length` (tokens), `height` and `width` (px), …"""
    largest: dict[str, Annotated[int, Field(ge=1)]] = {}  # noqa: RUF012 - pydantic copies it
    """Largest sizes of TensorRT engines, by dimension. Larger batches run in parts, other larger sizes are refused."""
    strip_weights: bool = False
    """Whether TensorRT engines are built without weights, so that another checkpoint needs no build."""


class ReplicaSettings(Section):
    """How the application is laid out over processes and machines."""

    layout: Literal["fused", "split"] = "fused"
    """`fused`: gateway and encoders in one process, best on small machines. `split`: gateways decode and preprocess,
    separate replicas encode, with one hop in between; `groups` says which."""
    num_gateways: int = Field(default=1, ge=1)
    """Gateway replicas, which answer callers."""
    num_encoders: int = Field(default=1, ge=1)
    """Encoder replicas, in the split layout without `groups`."""
    gateway_cpus: float = Field(default=0.0, ge=0)
    """CPUs that Ray reserves per gateway."""
    encoder_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves per encoder replica, in the split layout without `groups`."""
    encoder_gpus: Gpus = 0.0
    """GPUs that Ray reserves per encoder replica, per gateway in the fused layout. With `groups` each has its own."""
    decode_threads: int | None = Field(default=None, ge=1)
    """Threads per gateway that decode and preprocess images. Default: one per CPU."""
    decoded_bytes: ByteSize = Field(default=ByteSize(256 * 2**20), ge=0)
    """Bytes of decoded images that a gateway holds for their request's next encoder. Others are decoded again."""
    compute_threads: int | None = Field(default=None, ge=1)
    """Threads per engine. Default: one per CPU."""
    compute_streams: int = Field(default=1, ge=1, le=64)
    """Batches that one OpenVINO engine computes at the same time, its threads divided among them. With more, many small
    requests wait less, and a lone request takes longer."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds that requests under way may still take once the service was told to stop."""
