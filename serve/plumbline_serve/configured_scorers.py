"""The scorers that the configuration names, their encoders, and the graphs that these would have compiled."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from plumbline_models.backends import ListingBackend, PrecisionChoice, Tuning, open_backend
from plumbline_models.core.errors import ConfigError
from plumbline_models.core.graph import Graph
from plumbline_models.core.licences import check_licences
from plumbline_models.core.protocols import BuildContext, Encoder, OnLookup, Scorer
from plumbline_models.core.sections import all_of
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers import build_each, build_scorers
from plumbline_serve.settings import Settings


def make_scorers(
    settings: Settings,
    *,
    on_fallback: Callable[[str, str], None] | None = None,
    on_lookup: OnLookup | None = None,
) -> dict[str, Scorer]:
    """The configured scorers, in order, sharing encoders; loads no weights.

    Args:
        on_fallback: Told the graph and the backend of each engine that fails and that torch runs instead.
        on_lookup: Told of each look-up in what encoders keep between batches.

    Raises:
        SetupError: The configuration names what is not there, or weights whose licence it forbids.
    """
    tuning = replace(tuning_of(settings), on_fallback=on_fallback)
    backend = open_backend(settings.backend, precision=settings.precision, tuning=tuning)
    exact = open_backend(backend.name, precision="fp32", tuning=tuning) if backend.precision != "fp32" else None
    eager: PrecisionChoice = "auto" if settings.precision in ("int8", "fp8") else settings.precision
    context = BuildContext(
        backend=backend,
        registry=EncoderRegistry(),
        reference=exact,
        open_torch=partial(open_backend, "torch", precision=eager, tuning=tuning),
        max_caption_bytes=int(settings.caches.caption_bytes),
        on_lookup=on_lookup,
    )
    scorers = build_scorers(settings.scorers, context)
    check_licences(scorers, settings.licences.forbid)
    return {scorer.info.name: scorer for scorer in scorers}


def check_scorers(settings: Settings) -> None:
    """See that scorers can be made as configured; whether their files and devices are there is seen where they run.

    Raises:
        ConfigError: There is no such scorer, or its section is not valid.
    """
    noting = ListingBackend("torch", "fp32")
    context = BuildContext(noting, EncoderRegistry(), open_torch=lambda: noting)
    _, faults = build_each(settings.scorers or {}, context)
    if wrong := [fault for fault in faults.values() if isinstance(fault, ConfigError)]:
        raise all_of(wrong)


def tuning_of(settings: Settings) -> Tuning:
    """How engines are compiled and run here."""
    num_threads = settings.replicas.compute_threads or num_cpus()
    return Tuning(
        cache_dir=settings.cache_dir,
        num_threads=num_threads,
        num_streams=min(settings.replicas.compute_streams, num_threads),
        max_batch=settings.batching.max_batch,
        engines_dir=settings.engines.dir,
        calibration_dir=settings.engines.calibration_dir,
        typical_sizes=settings.engines.typical,
        largest_sizes=settings.engines.largest,
        strips_weights=settings.engines.strip_weights,
    )


def wanted_graphs(settings: Settings, name: str, precision: str) -> list[tuple[Graph, str]]:
    """Every graph that the configured scorers would have a backend compile, each with its precision.

    Found by loading the encoders over a backend that only takes notes: weights are fetched, none are loaded.

    Args:
        name: Of the backend.
        precision: As resolved for the backend; what needs float32 gets it all the same.

    Raises:
        SetupError: The configuration names what is not there.
    """
    usual, exact = ListingBackend(name, precision), ListingBackend(name, "fp32")
    reference = exact if precision != "fp32" else None
    # What torch runs as it is needs no engine, and is not noted.
    context = BuildContext(
        usual, EncoderRegistry(), reference=reference, open_torch=lambda: ListingBackend("torch", precision)
    )
    for encoder in encoders_of(build_scorers(settings.scorers, context)):
        encoder.load()
    return [(graph, listing.precision) for listing in (usual, exact) for graph in listing.graphs]


def encoders_of(scorers: Iterable[Scorer]) -> list[Encoder]:
    """Every encoder that the scorers need, once."""
    taken = [encoder for s in scorers for encoder in (s.image, s.text, s.pair) if encoder is not None]
    return list({encoder.key: encoder for encoder in taken}.values())


def encoders_by_group(settings: Settings, scorers: Mapping[str, Scorer]) -> dict[str, list[Encoder]]:
    """The encoders of each group; one that scorers of several groups need is in the first of them.

    Args:
        settings: Which scorers are in which group.
        scorers: As the settings have them.

    Raises:
        ConfigError: A group has no encoder of its own.
    """
    found: dict[str, list[Encoder]] = {}
    taken: set[str] = set()
    for name, group in settings.encoder_groups.items():
        wanted = encoders_of(scorers[scorer] for scorer in group.scorers if scorer in scorers)
        found[name] = [encoder for encoder in wanted if encoder.key not in taken]
        if not found[name]:
            raise ConfigError(f"The groups before {name} hold all encoders of its scorers.", group=name)
        taken.update(encoder.key for encoder in wanted)
    return found


def num_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
