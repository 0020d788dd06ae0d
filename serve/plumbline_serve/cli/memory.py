"""About how much memory encoders will take, told before any is loaded: for `plumbline models` and `plumbline doctor`.

An estimate by rules that were measured (docs/capacity.md): each weight as often as the backend keeps it, what every
engine takes besides, and the largest batch of usual inputs.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plumbline_models.backends import chosen_backend, cuda_devices
from plumbline_models.core.errors import SetupError
from plumbline_models.core.protocols import Encoder
from plumbline_models.core.weights import HasSize
from plumbline_serve.cli.checks import MIB, Finding
from plumbline_serve.settings import Settings

SERVICE_BYTES: Final = 1200 * MIB  # Ray, HAProxy and the command
GIB: Final = 2**30
MEMINFO: Final = Path("/proc/meminfo")
LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What a container may take, of both versions of control groups."""
HALVES: Final = frozenset({"bf16", "fp16"})
ON_GPUS: Final = frozenset({"tensorrt", "tensorrt-rtx", "torch-compile"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What a backend takes, in bytes.

    Args:
        process: Of a replica without encoders.
        weight: Of each weight.
        engine: Of each engine, whatever its size.
        number: Of each number of the largest batch's inputs.
    """

    process: int
    weight: float
    engine: int
    number: int


ON_OPENVINO: Final = Rule(process=200 * MIB, weight=8.5, engine=32 * MIB, number=16)
"""Pages of a file in float32, and as much again in the processor's own layout, in bf16 as in float32."""
ON_TORCH: Final = Rule(process=600 * MIB, weight=4.0, engine=24 * MIB, number=41)
ON_TORCH_IN_HALVES: Final = Rule(process=600 * MIB, weight=2.0, engine=24 * MIB, number=41)


def rule_of(settings: Settings) -> Rule | None:
    """That of the backend that would run here; None where it is a GPU's, whose memory is another, or there is none.

    Args:
        settings: Their backend and precision.
    """
    with suppress(SetupError):
        backend = chosen_backend(settings.backend)
        if backend == "openvino":
            return ON_OPENVINO
        if backend not in ON_GPUS and not cuda_devices():
            return ON_TORCH_IN_HALVES if settings.precision in HALVES else ON_TORCH
    return None


def needed_bytes(encoder: Encoder, rule: Rule) -> int | None:
    """What an encoder will take in its process; None where its weights are not here, or it says no size.

    Args:
        encoder: Loaded or not.
        rule: Of its backend.

    Raises:
        SetupError: The weights are not usable.
    """
    size = encoder.size() if isinstance(encoder, HasSize) else None
    if size is None:
        return None
    return round(size.num_weights * rule.weight) + rule.engine + size.num_inputs * rule.number


def find_memory(found: Iterable[int | None], settings: Settings) -> Iterator[Finding]:
    """Whether this machine has what the service will take: one replica with all encoders, and what runs beside it.

    Args:
        found: What each encoder takes; None: it is not known.
        settings: What it would run with.
    """
    rule, has, needs = rule_of(settings), machine_bytes(), list(found)
    if rule is None or has is None or not needs:
        return
    total = SERVICE_BYTES + rule.process + sum(each for each in needs if each is not None)
    num_unknown = needs.count(None)
    more = f", besides {num_unknown} of {len(needs)} encoders, whose weights are not here" if num_unknown else ""
    said = f"about {total / GIB:.1f} GiB are needed{more}; the machine has {has / GIB:.1f} GiB"
    advice = (
        "The start may be killed, and the first takes more, as graphs are exported: take smaller weights, groups of "
        "encoders on several machines, or a larger machine; see docs/capacity.md."
    )
    yield Finding("memory", total <= has, said, advice, is_needed=False)


def machine_bytes() -> int | None:
    """What this process and all others may take together: the machine's memory, or its container's; None: unknown."""
    known: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        known.append(int(MEMINFO.read_text(encoding="ascii").split()[1]) * 1024)  # MemTotal comes first, in kB
    for file in LIMITS:
        with suppress(OSError, ValueError):  # "max" is no number
            known.append(int(file.read_text(encoding="ascii")))
    return min(known, default=None)
