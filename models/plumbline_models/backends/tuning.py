"""How graphs are compiled and run, whatever the backend."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.precision import Precision, PrecisionChoice

__all__ = ["MAX_THREADS", "Device", "Precision", "PrecisionChoice", "Tuning"]

Device: TypeAlias = Literal["auto", "cpu", "cuda"]

MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a backend is told besides the graph.

    Args:
        cache_dir: Where compiled engines are kept; made when first needed.
        engines_dir: Engines that came with the installation: looked up first, never written to.
        num_threads: CPU threads of one engine; None: what the machine, or the container's quota, gives.
        num_streams: Batches that one engine computes at a time, for backends that can; its threads are divided
            among them.
        prefer: `latency` for one caller at a time, `throughput` for batches that keep all cores busy.
        device: `auto` is a CUDA GPU where the backend can use one and there is one.
        max_batch: The most rows that a batch will have, for backends whose engines grow with it; None: as many
            as the graph allows.
        typical_sizes: Of dimensions by name (`batch`, `length`, `height` and the like), for backends that tune
            engines to one size.
        largest_sizes: Beyond which nothing will come, for backends whose engines are bounded.
        strips_weights: Whether engines are built without their weights, which are given to them when they are loaded,
            for backends that can: other weights of the same architecture then need no build.
        records_launches: Whether batches whose shape comes again are launched as one CUDA graph.
        calibration_dir: Images that engines in int8 or fp8 are calibrated on, of the kind that will be scored.
        on_fallback: Told the graph and the backend of each engine that failed, and that torch or, where it was built
            without its weights, one with them inside replaces.

    Raises:
        ConfigError: A number is out of range.
    """

    cache_dir: Path
    num_threads: int | None = None
    num_streams: int = 1
    prefer: Literal["latency", "throughput"] = "latency"
    device: Device = "auto"
    max_batch: int | None = None
    engines_dir: Path | None = None
    typical_sizes: Mapping[str, int] = field(default_factory=dict)
    largest_sizes: Mapping[str, int] = field(default_factory=dict)
    strips_weights: bool = False
    records_launches: bool = True
    calibration_dir: Path | None = None
    on_fallback: Callable[[str, str], None] | None = None

    def __post_init__(self) -> None:
        for what, number in (("threads", self.num_threads), ("streams", self.num_streams)):
            if number is not None and not 1 <= number <= MAX_THREADS:
                raise ConfigError(
                    f"The number of {what} must be 1 to {MAX_THREADS}, not {number}.", **{f"num_{what}": number}
                )
        if self.max_batch is not None and self.max_batch < 1:
            raise ConfigError("The largest batch must be at least 1.", max_batch=self.max_batch)
