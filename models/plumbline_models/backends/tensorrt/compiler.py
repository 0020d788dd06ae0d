"""Finds a graph's TensorRT engine in the cache, or exports the graph and builds it; runs nothing.

Weights are part of an engine and of its key, unless engines without them are asked for: see `stripped_graphs`.
"""

import functools
import json
import mmap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from plumbline_models.backends.ahead import KeptEngine, Progress, num_bytes_in
from plumbline_models.backends.store.engine_store import EngineCache
from plumbline_models.backends.store.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.tensorrt.builder import BuildOrder, BuiltPlan, build_plan
from plumbline_models.backends.tensorrt.library import TensorRtLibrary
from plumbline_models.backends.tensorrt.profiles import InputProfile, SizeChoices, profile_of, show_profile
from plumbline_models.backends.tensorrt.stripped import StrippedGraph, keep_stripped
from plumbline_models.backends.tuning import Precision, Tuning
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

NETWORK_VERSION: Final = 1
"""Raised when the rules of `mixed_precision` or the builder's settings change."""
_PLAN, _FACTS = "engine.plan", "facts.json"
_APART: Final = {"weights": "apart"}


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What is kept beside a plan, for the report."""

    profile: str
    num_layers: int
    build_s: float
    """Seconds; the export is part of it where the weights are."""


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


@dataclass(frozen=True, slots=True)
class StrippedPlan:
    """An engine without weights, and the graph and weights that it belongs to."""

    plan: Plan
    parts: StrippedGraph


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
        self.strips_weights = tuning.strips_weights
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
        key = engine_key(graph, self._recipe(graph))
        export = functools.partial(self._export, graph)
        return self._find_or_build(graph, key, write_onnx=export, on_progress=on_progress)

    def stripped(self, graph: Graph, on_progress: Progress | None = None) -> StrippedPlan:
        """Find or build the engine that serves all weights of the graph's kind, and find or export these weights.

        Raises:
            EngineError: As for `plan`, or the cache cannot be written.
            ConfigError: As for `plan`.
        """
        recipe = self._recipe(graph)
        # Neither the device nor the library that an engine is for changes what is exported.
        portable = replace(recipe, version="any", device="any", options={"network": NETWORK_VERSION, **_APART})
        parts_key = engine_key(graph, portable)
        parts = keep_stripped(graph, parts_key, precision=self.precision_of(graph), cache=self.cache)
        bare = replace(recipe, options={**recipe.options, **_APART})
        key = engine_key(replace(graph, fingerprint=parts.structure()), bare)
        plan = self._find_or_build(graph, key, write_onnx=lambda _: parts.onnx_file, on_progress=on_progress)
        return StrippedPlan(plan, parts)

    def keep(self, graph: Graph, on_progress: Progress | None = None) -> KeptEngine:
        """As `AheadCompiler.keep`."""
        stripped = self.stripped(graph, on_progress) if self.strips_weights else None
        plan = stripped.plan if stripped is not None else self.plan(graph, on_progress)
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
            weights_folder=stripped.parts.folder if stripped is not None else None,
            num_weight_bytes=num_bytes_in(stripped.parts.folder) if stripped is not None else 0,
        )

    def profile(self, graph: Graph) -> tuple[InputProfile, ...]:
        """The sizes that the graph's engine is made for."""
        return profile_of(graph, self._choices)

    def precision_of(self, graph: Graph) -> Precision:
        """What the graph is computed in: bf16 in the place of fp16 where values leave fp16's range."""
        return "bf16" if graph.exceeds_fp16 and self._precision == "fp16" else self._precision

    def _recipe(self, graph: Graph) -> Recipe:
        return Recipe(
            backend="tensorrt",
            version=self._library.version,
            precision=self.precision_of(graph),
            device=self.device,
            options={"profile": show_profile(self.profile(graph)), "network": NETWORK_VERSION},
        )

    def _find_or_build(
        self, graph: Graph, key: EngineKey, *, write_onnx: Callable[[Path], Path], on_progress: Progress | None
    ) -> Plan:
        """`write_onnx` is given a folder that it may use, and says where the graph is."""
        if (found := self._fetch(key)) is not None:
            return found
        with self.cache.building(key):
            return self._fetch(key) or self._build(graph, key, write_onnx=write_onnx, on_progress=on_progress)

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
        self, graph: Graph, key: EngineKey, *, write_onnx: Callable[[Path], Path], on_progress: Progress | None
    ) -> Plan:
        started, profile = time.perf_counter(), self.profile(graph)
        with self.cache.scratch(key) as scratch:
            if scratch is None:
                raise EngineError("There is no folder to write a graph to.", graph=graph.name)
            order = BuildOrder(graph.name, write_onnx(scratch), profile, self._timing_file)
            built = build_plan(self._library, order, on_progress=on_progress)
        facts = PlanFacts(show_profile(profile), built.num_layers, time.perf_counter() - started)
        folder = self.cache.store(key, functools.partial(_write, built, facts))
        return Plan(key, built.plan, facts, folder, was_found=False)

    def _export(self, graph: Graph, scratch: Path) -> Path:
        # Imported here because it brings torch's exporter, which a warm start must not pay for.
        from plumbline_models.backends.export.export import export_onnx  # noqa: PLC0415

        exported = export_onnx(graph)
        exported.lower(self.precision_of(graph))
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
