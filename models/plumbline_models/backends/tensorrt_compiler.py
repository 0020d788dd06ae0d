"""Finds a graph's TensorRT engine in the cache, or exports the graph and builds it; runs nothing.

Weights are part of an engine and of its key. Engines without them, refitted when loaded, would spare a build when
only weights change; they are left out until their results can be checked on a GPU.
"""

import functools
import json
import mmap
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from plumbline_models.backends.ahead import KeptEngine, Progress, num_bytes_in
from plumbline_models.backends.cache import EngineCache
from plumbline_models.backends.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.tensorrt_builder import BuildOrder, BuiltPlan, build_plan
from plumbline_models.backends.tensorrt_library import TensorRtLibrary
from plumbline_models.backends.tensorrt_profiles import InputProfile, SizeChoices, profile_of, show_profile
from plumbline_models.backends.tuning import Precision, Tuning
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

NETWORK_VERSION: Final = 1
"""Raised when the rules of `mixed_precision` or the builder's settings change."""
_PLAN, _FACTS = "engine.plan", "facts.json"


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What is kept beside a plan, for the report."""

    profile: str
    num_layers: int
    build_s: float
    """Seconds, the export included."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialised engine.

    Args:
        content: Its bytes, mapped from the file where there is one.
        folder: Where it is kept; None where it could not be.
    """

    key: EngineKey
    content: Any
    facts: PlanFacts
    folder: Path | None
    was_found: bool


class TensorRtCompiler:
    """Makes plans for one device at one precision.

    Args:
        name: Of the backend, as in the configuration.
        device: What plans are bound to.
    """

    def __init__(
        self, library: TensorRtLibrary, *, name: str, precision: Precision, device: str, tuning: Tuning
    ) -> None:
        self.name = name
        self.device = device
        self.cache = EngineCache(tuning.cache_dir, tuning.engines_dir)
        self._library = library
        self._precision: Precision = precision
        self._choices = _choices(tuning)
        self._timing_file = tuning.cache_dir.expanduser() / "timings" / f"{library.version} {device}".replace(" ", "-")

    @property
    def precision(self) -> Precision:
        """`fp32`, `bf16` or `fp16`."""
        return self._precision

    def plan(self, graph: Graph, on_progress: Progress | None = None) -> Plan:
        """Find or build the graph's engine.

        Raises:
            EngineError: The graph does not export, or TensorRT refuses it.
            ConfigError: A chosen size lies outside of what the graph computes.
        """
        profile = self.profile(graph)
        key = self._key(graph, profile)
        if (found := self._fetch(key)) is not None:
            return found
        with self.cache.building(key):
            return self._fetch(key) or self._build(graph, key, profile, on_progress)

    def keep(self, graph: Graph, on_progress: Progress | None = None) -> KeptEngine:
        """As `AheadCompiler.keep`."""
        plan = self.plan(graph, on_progress)
        if plan.folder is None:
            raise EngineError(f"The engine of {graph.name} cannot be written to the folder.", graph=graph.name)
        return KeptEngine(
            graph=graph.name,
            backend=self.name,
            precision=self.precision_of(graph),
            profile=plan.facts.profile,
            device=self.device,
            build_s=0.0 if plan.was_found else plan.facts.build_s,
            num_bytes=num_bytes_in(plan.folder),
            num_layers=plan.facts.num_layers,
            folder=plan.folder,
            was_found=plan.was_found,
        )

    def profile(self, graph: Graph) -> tuple[InputProfile, ...]:
        """The sizes that the graph's engine is made for."""
        return profile_of(graph, self._choices)

    def precision_of(self, graph: Graph) -> Precision:
        """What the graph is computed in: bf16 in the place of fp16 where values leave fp16's range."""
        return "bf16" if graph.exceeds_fp16 and self._precision == "fp16" else self._precision

    def _key(self, graph: Graph, profile: tuple[InputProfile, ...]) -> EngineKey:
        recipe = Recipe(
            backend="tensorrt",
            version=self._library.version,
            precision=self.precision_of(graph),
            device=self.device,
            options={"profile": show_profile(profile), "network": NETWORK_VERSION},
        )
        return engine_key(graph, recipe)

    def _fetch(self, key: EngineKey) -> Plan | None:
        folder = self.cache.load(key)
        if folder is None:
            return None
        try:
            facts = PlanFacts(**json.loads((folder / _FACTS).read_text(encoding="utf-8")))
            with (folder / _PLAN).open("rb") as stream:
                content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError, TypeError) as error:
            self.cache.discard(key, f"its files cannot be read: {error}")
            return None
        return Plan(key, content, facts, folder, was_found=True)

    def _build(
        self, graph: Graph, key: EngineKey, profile: tuple[InputProfile, ...], on_progress: Progress | None
    ) -> Plan:
        started = time.perf_counter()
        with self.cache.scratch(key) as scratch:
            if scratch is None:
                raise EngineError("There is no folder to write a graph to.", graph=graph.name)
            onnx_file = self._export(graph, scratch)
            order = BuildOrder(graph.name, onnx_file, profile, self._timing_file)
            built = build_plan(self._library, order, on_progress=on_progress)
        facts = PlanFacts(show_profile(profile), built.num_layers, time.perf_counter() - started)
        folder = self.cache.store(key, functools.partial(_write, built, facts))
        return Plan(key, built.plan, facts, folder, was_found=False)

    def _export(self, graph: Graph, scratch: Path) -> Path:
        # Imported here because it brings torch's exporter, which a warm start must not pay for.
        from plumbline_models.backends.export import export_onnx  # noqa: PLC0415

        exported = export_onnx(graph)
        precision = self.precision_of(graph)
        if precision != "fp32":
            exported.lower(precision)
        onnx_file = scratch / "graph.onnx"
        try:
            exported.save(onnx_file)
        except OSError as error:
            raise EngineError(
                f"The graph {graph.name} cannot be written for TensorRT.", graph=graph.name, reason=str(error)
            ) from error
        return onnx_file


def _write(built: BuiltPlan, facts: PlanFacts, folder: Path) -> None:
    with (folder / _PLAN).open("wb") as stream:
        stream.write(built.plan)
    (folder / _FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")


def _choices(tuning: Tuning) -> SizeChoices:
    largest = dict(tuning.largest_sizes)
    if tuning.max_batch is not None:
        largest["batch"] = min(tuning.max_batch, largest.get("batch", tuning.max_batch))
    return SizeChoices(typical=tuning.typical_sizes, largest=largest)
