"""Finds a graph's TensorRT plan in the store, or exports the graph and builds it; runs nothing.

Weights are part of a plan and of its key, unless plans without them are asked for: see `stripped`.
"""

import json
import mmap
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from plumbline_models.backends.agreement import References, Sizes
from plumbline_models.backends.ahead import KeptEngine, Progress, num_bytes_in
from plumbline_models.backends.store.engine_store import Built, EngineStore, Entry
from plumbline_models.backends.store.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.store.manifest import BrokenEntryError
from plumbline_models.backends.tensorrt.builder import FP8_TARGETS, BuildOrder, BuiltPlan, build_plan
from plumbline_models.backends.tensorrt.fp8 import FP8, FP8_DEVICE, Fp8
from plumbline_models.backends.tensorrt.library import TensorRtLibrary
from plumbline_models.backends.tensorrt.profiles import InputProfile, SizeChoices, profile_of, show_profile
from plumbline_models.backends.tensorrt.stripped import StrippedGraph, export_graph, keep_stripped
from plumbline_models.backends.tuning import Precision, Tuning
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

OpenPlan: TypeAlias = Callable[[Graph, Any], Any]
"""Deserialises the plan of a graph; raises EngineError where it is damaged, or for another GPU or version."""

TensorRtPrecision: TypeAlias = Precision | Literal["fp8"]
"""`fp8`: of graphs that have such a form; others are in fp16."""

_SOURCES: Final = ("backends.tensorrt.builder",)
_FUSING: Final = "backends.tensorrt.attention"
_PLAN, _FACTS, _ONNX = "engine.plan", "facts.json", "graph.onnx"
_APART: Final = {"weights": "apart"}


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """What to build, or to find.

    Args:
        usual: What the graph is computed in, but for products in fp8.
        profile: The sizes that the engine takes, by input.
        parts: The graph and its weights, which are given to the engine when it is loaded; None: they are part of it.
        is_fused: Whether attention is one node each: see `attention`.
        fp8: Writes products in fp8; None: none are.
    """

    graph: Graph
    key: EngineKey
    usual: Precision
    profile: tuple[InputProfile, ...]
    parts: StrippedGraph | None = None
    is_fused: bool = False
    fp8: Fp8 | None = None

    @property
    def precision(self) -> str:
        """For people: `fp32`, `bf16`, `fp16` or `fp8`."""
        return self.usual if self.fp8 is None else FP8


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
        opened: What it was deserialised to; None where nothing is to be run.
        references: What it must give for the fixed inputs; None where its weights lie apart, and with them those.
    """

    facts: PlanFacts
    opened: Any = None
    references: References | None = None


class TensorRtCompiler:
    """Makes plans for one device at one precision.

    Args:
        library: Builds them.
        name: Of the backend, as in the configuration.
        precision: Of graphs whose values it holds.
        device: What plans are bound to.
        tuning: Where they are kept, and the sizes that they are tuned to.
    """

    def __init__(
        self, library: TensorRtLibrary, *, name: str, precision: TensorRtPrecision, device: str, tuning: Tuning
    ) -> None:
        self.name = name
        self.store = EngineStore(tuning.cache_dir, tuning.engines_dir)
        self._fp8 = Fp8(tuning.calibration_dir, self.store) if precision == "fp8" else None
        self._library = library
        self._precision: Precision = "fp16" if precision == "fp8" else precision
        self._device = device
        self._strips_weights = tuning.strips_weights
        self._choices = _choices(tuning)
        self._timing_file = tuning.cache_dir.expanduser() / "timings" / f"{library.version} {device}".replace(" ", "-")

    @property
    def precision(self) -> str:
        """`fp32`, `bf16` or `fp16`, or `fp8` where graphs that have such a form are built in it."""
        return self._precision if self._fp8 is None else FP8

    def precision_of(self, graph: Graph) -> str:
        """What the graph is computed in: bf16 in the place of fp16 where values leave fp16's range."""
        return FP8 if self.quantises(graph) else self._usual(graph)

    def fuses(self, graph: Graph) -> bool:
        """Whether attention in the graph may be one node each; products in float32 have no fused form."""
        return self._library.fuses_attention and self._usual(graph) != "fp32"

    def quantises(self, graph: Graph) -> bool:
        """Whether products in the graph may be in fp8."""
        return self._fp8 is not None and graph.preprocess is not None and not graph.exceeds_fp16

    def _usual(self, graph: Graph) -> Precision:
        return "bf16" if graph.exceeds_fp16 and self._precision == "fp16" else self._precision

    def specify(
        self, graph: Graph, *, is_stripped: bool = False, is_fused: bool = True, is_quantised: bool = True
    ) -> PlanSpec:
        """Say what to build; a graph whose weights stay apart is exported for it, unless that was done before.

        Args:
            graph: What is compiled.
            is_stripped: Whether the plan is to serve all weights of the graph's kind; never where products are in fp8,
                since scales belong to weights.
            is_fused: Whether attention is to be one node each, where that can be.
            is_quantised: Whether products are to be in fp8, where they can be.

        Raises:
            EngineError: The graph does not export, or its weights cannot be stored.
            ConfigError: A chosen size lies outside of what the graph computes, or there is nothing to calibrate on.
        """
        precision, profile = self._usual(graph), profile_of(graph, self._choices)
        fuses = is_fused and self.fuses(graph)
        fusing, sources = ({"attention": "fused"}, (_FUSING,)) if fuses else ({}, ())
        recipe = Recipe(
            backend="tensorrt",
            version=self._library.version,
            precision=precision,
            device=self._device,
            options={"profile": show_profile(profile), **fusing},
            sources=(*_SOURCES, *sources),
        )
        if is_quantised and self._fp8 is not None and self.quantises(graph):
            device = self._device if self._library.times_kernels else FP8_DEVICE
            key = self._fp8.key(graph, replace(recipe, device=device))
            return PlanSpec(graph, key, precision, profile, is_fused=fuses, fp8=self._fp8)
        if not is_stripped:
            return PlanSpec(graph, engine_key(graph, recipe), precision, profile, is_fused=fuses)
        # Neither the device nor the library that an engine is for changes what is exported.
        portable = replace(recipe, version="any", device="any", options={**_APART, **fusing}, sources=sources)
        key = engine_key(graph, portable)
        parts = keep_stripped(graph, key, precision=precision, store=self.store, is_fused=fuses)
        bare = replace(recipe, options={**recipe.options, **_APART})
        key = engine_key(replace(graph, fingerprint=parts.structure()), bare)
        return PlanSpec(graph, key, precision, profile, parts, is_fused=fuses)

    def find_or_build(
        self, spec: PlanSpec, *, open_plan: OpenPlan | None = None, on_progress: Progress | None = None
    ) -> Entry[Plan]:
        """The plan, built where there is none that is whole and opens.

        Args:
            spec: As `specify` gave it.
            open_plan: None: it is not opened.
            on_progress: Told how building goes.

        Raises:
            EngineError: The graph does not export, TensorRT refuses it, or what was just built does not open.
        """
        return self.store.get_or_build(
            spec.key,
            build=partial(self._build, spec, open_plan=open_plan, on_progress=on_progress),
            read=partial(_read, spec, open_plan),
        )

    def keep(self, graph: Graph, on_progress: Progress | None = None) -> KeptEngine:
        """As `AheadCompiler.keep`.

        Args:
            graph: What is compiled.
            on_progress: Told how building goes.
        """
        spec = self.specify(graph, is_stripped=self._strips_weights)
        entry = self.find_or_build(spec, on_progress=on_progress)
        if entry.folder is None:
            raise EngineError(f"The engine of {graph.name} cannot be written to the folder.", graph=graph.name)
        facts = entry.value.facts
        return KeptEngine(
            graph=graph.name,
            backend=self.name,
            precision=spec.precision,
            profile=facts.profile,
            device=str(spec.key.facts["device"]),
            build_s=0.0 if entry.was_found else facts.build_s,
            num_bytes=num_bytes_in(entry.folder),
            num_layers=facts.num_layers,
            folder=entry.folder,
            was_found=entry.was_found,
            weights_folder=spec.parts.folder if spec.parts is not None else None,
            num_weight_bytes=num_bytes_in(spec.parts.folder) if spec.parts is not None else 0,
        )

    def _build(self, spec: PlanSpec, *, open_plan: OpenPlan | None, on_progress: Progress | None) -> Built[Plan]:
        started, graph = time.perf_counter(), spec.graph
        with self.store.scratch(spec.key) as scratch:
            if scratch is None:
                raise EngineError("There is no folder to write a graph to.", graph=graph.name)
            references = None if spec.parts is not None else _export(spec, scratch)
            onnx_file = scratch / _ONNX if spec.parts is None else spec.parts.onnx_file
            targets = FP8_TARGETS if spec.fp8 is not None else ()
            order = BuildOrder(graph.name, onnx_file, spec.profile, self._timing_file, targets)
            built = build_plan(self._library, order, on_progress=on_progress)
        facts = PlanFacts(show_profile(spec.profile), built.num_layers, time.perf_counter() - started)
        return Built(
            write=partial(_write, built, facts, references),
            use=lambda: Plan(facts, None if open_plan is None else open_plan(graph, built.plan), references),
        )


def _export(spec: PlanSpec, scratch: Path) -> References:
    from plumbline_models.backends.tensorrt.attention import fuse_attention  # noqa: PLC0415 - onnx_ir, when building

    exported = export_graph(spec.graph, spec.usual, sizes=sizes_of(spec))
    try:
        exported.save(scratch / _ONNX)
        if spec.is_fused:
            fuse_attention(scratch / _ONNX)
        if spec.fp8 is not None:
            return spec.fp8.quantise(spec.graph, scratch / _ONNX, exported.references.sizes)
    except OSError as error:
        detail = f"The graph {spec.graph.name} cannot be written for TensorRT."
        raise EngineError(detail, graph=spec.graph.name, reason=str(error)) from error
    return exported.references


def sizes_of(spec: PlanSpec) -> Sizes:
    """What an engine is compared at: the sizes that it is tuned to."""
    return {profile.name: profile.typical for profile in spec.profile}


def _write(built: BuiltPlan, facts: PlanFacts, references: References | None, folder: Path) -> None:
    with (folder / _PLAN).open("wb") as stream:
        stream.write(built.plan)
    (folder / _FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")
    if references is not None:
        references.write(folder)


def _read(spec: PlanSpec, open_plan: OpenPlan | None, folder: Path) -> Plan:
    try:
        facts = PlanFacts(**json.loads((folder / _FACTS).read_text(encoding="utf-8")))
        references = None if spec.parts is not None else References.read(folder)
        with (folder / _PLAN).open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError, TypeError) as error:
        raise BrokenEntryError(f"its files cannot be read: {error}") from error
    try:
        return Plan(facts, None if open_plan is None else open_plan(spec.graph, content), references)
    except EngineError as error:
        raise BrokenEntryError(f"TensorRT refuses it: {error.facts.get('reason')}") from error


def _choices(tuning: Tuning) -> SizeChoices:
    largest = dict(tuning.largest_sizes)
    if tuning.max_batch is not None:
        largest["batch"] = min(tuning.max_batch, largest.get("batch", tuning.max_batch))
    return SizeChoices(typical=tuning.typical_sizes, largest=largest)
