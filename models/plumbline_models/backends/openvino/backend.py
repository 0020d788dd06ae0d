"""OpenVINO on the CPU: what is cached is its intermediate representation, compiled at every load.

Why not the compiled form, and where it is kept all the same, is said in `compiled_form`.

In int8 image towers have a representation of their own, calibrated on a folder of images; all other graphs run as with
`auto`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from plumbline_models.backends.agreement import (
    References,
    WrongNumbersError,
    check_agreement,
    draw_inputs,
    num_when_loaded,
)
from plumbline_models.backends.ahead import KeptEngine, Progress, num_bytes_in
from plumbline_models.backends.fallback import BY_TORCH, Fallback
from plumbline_models.backends.inputs import show_shape
from plumbline_models.backends.openvino.compiled_form import CompiledForms, compile_options
from plumbline_models.backends.openvino.conversion import Draft, convert, convert_shipped, separate_weights
from plumbline_models.backends.openvino.engine import OpenVinoEngine
from plumbline_models.backends.openvino.int8 import Int8
from plumbline_models.backends.openvino.runtime import cpu_capabilities, import_openvino, open_core
from plumbline_models.backends.shipped import NotShippedError, ShippedGraph, open_shipped, require_shipped
from plumbline_models.backends.store.engine_store import Built, EngineStore, Entry
from plumbline_models.backends.store.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.store.manifest import BrokenEntryError
from plumbline_models.backends.tuning import Precision, PrecisionChoice, Tuning
from plumbline_models.core.engines import Engine, EngineInfo
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from plumbline_models.core.graph import Graph

_ARTEFACT, _SOURCES = "graph.xml", ("backends.openvino.conversion",)


def open_backend(precision: PrecisionChoice, tuning: Tuning) -> "OpenVinoBackend":
    """Open OpenVINO's CPU device.

    Args:
        precision: `auto` is bf16 where the CPU computes it natively, else fp32.
        tuning: As for every backend.

    Raises:
        BackendUnavailableError: OpenVINO is not installed, the CPU lacks the precision, or a GPU is asked for.
        ConfigError: OpenVINO has no such precision on a CPU, or int8 has neither images nor engines to use.
    """
    if tuning.device == "cuda":
        raise BackendUnavailableError("The openvino backend runs on the CPU, not on a CUDA GPU.", backend="openvino")
    if precision in ("fp16", "fp8"):
        raise ConfigError(
            f"The openvino backend computes in fp32, bf16 or int8 on a CPU, not in {precision}.",
            backend="openvino",
            precision=precision,
        )
    core = open_core()
    has_bf16 = "BF16" in cpu_capabilities(core)
    if precision == "bf16" and not has_bf16:
        raise BackendUnavailableError(
            "This CPU does not compute in bf16; set precision to fp32 or auto.",
            backend="openvino",
            cpu=core.get_property("CPU", "FULL_DEVICE_NAME"),
        )
    resolved: Precision = "bf16" if has_bf16 and precision != "fp32" else "fp32"
    store = EngineStore(tuning.cache_dir, tuning.engines_dir)
    int8 = (
        Int8.of(core, tuning, options=compile_options(resolved, tuning), store=store) if precision == "int8" else None
    )
    return OpenVinoBackend(core, store, precision=resolved, tuning=tuning, int8=int8)


def open_compiler(precision: PrecisionChoice, tuning: Tuning) -> "OpenVinoBackend":
    """Open what compiles ahead of time: the backend itself, since its engines serve every CPU.

    Args:
        precision: As for `open_backend`.
        tuning: As for every backend.
    """
    return open_backend(precision, tuning)


def devices() -> tuple[str, ...]:
    """The CPU by its name, with what it computes natively."""
    core = open_core()
    name = core.get_property("CPU", "FULL_DEVICE_NAME").strip()
    return (f"{name} ({', '.join(sorted(cpu_capabilities(core) & {'FP32', 'BF16', 'FP16', 'INT8'}))})",)


class OpenVinoBackend:
    """Compiles graphs for the CPU; see `open_backend`.

    Args:
        core: The `openvino.Core` that compiles.
        store: Where representations are kept.
        precision: Of what is not quantised.
        int8: Quantises graphs that have such a form; None: none is.
    """

    name = "openvino"

    def __init__(
        self, core: Any, store: EngineStore, *, precision: Precision, tuning: Tuning, int8: Int8 | None = None
    ) -> None:
        self._core = core
        self._store = store
        self._openvino = import_openvino()
        self._precision = precision
        self._options = compile_options(precision, tuning)
        self._forms = CompiledForms(core, version=self._openvino.get_version(), options=self._options)
        self._num_streams = tuning.num_streams
        self._int8 = int8
        # What bf16 is too coarse for here, it is too coarse for in torch.
        self._fallback = Fallback(self.name, "fp32", replace(tuning, device="cpu"))

    @property
    def precision(self) -> str:
        """`fp32`, `bf16`, or `int8` where graphs that have such a form run in it."""
        return self._precision if self._int8 is None else "int8"

    def precision_of(self, graph: Graph) -> str:
        """As `AheadCompiler.precision_of`."""
        return self._precision if self._quantiser(graph) is None else "int8"

    def compile(self, graph: Graph) -> Engine:
        """Fetch the engine, without torch, from what came with the weights or from the store; or export and store it.

        One that gives wrong numbers is made anew, and where that does no better, torch runs the graph in float32.

        Raises:
            EngineError: The graph does not export or compile.
        """
        refused: list[WrongNumbersError] = []
        try:
            engine = self._fetch(graph, refused)
        except WrongNumbersError as error:
            self._fallback.report(graph, error, instead=BY_TORCH)
            return self._fallback.run_by_torch(graph)
        for refusal in refused[:1]:
            self._fallback.report(graph, refusal, instead="it was made anew")
        return engine

    def keep(self, graph: Graph, on_progress: Progress | None = None) -> KeptEngine:
        """As `AheadCompiler.keep`; what is not int8 serves every precision, and layers are counted at this one.

        Args:
            graph: What is compiled.
            on_progress: Not told: OpenVINO says nothing on the way.
        """
        del on_progress
        started = time.perf_counter()
        try:
            entry = self._find_or_build(graph, open_shipped(graph), [])
        except WrongNumbersError as error:
            raise EngineError(error.detail, graph=graph.name, **error.facts) from error
        build_s = time.perf_counter() - started
        if entry.folder is None:
            raise EngineError(f"The engine of {graph.name} cannot be written to the folder.", graph=graph.name)
        return KeptEngine(
            graph.name,
            self.name,
            self.precision_of(graph),
            profile="; ".join(f"{spec.name} {show_shape(spec.shape)}" for spec in graph.inputs),
            device=str(entry.key.facts["device"]),
            build_s=0.0 if entry.was_found else build_s,
            num_bytes=num_bytes_in(entry.folder),
            num_layers=entry.value.num_layers,
            folder=entry.folder,
            was_found=entry.was_found,
        )

    def _fetch(self, graph: Graph, refused: list[WrongNumbersError]) -> OpenVinoEngine:
        is_exported = graph.shipped is not None and self._quantiser(graph) is None
        if is_exported and not self._store.ships(self._key(graph)):
            try:
                return self._fetch_compiled(graph, refused)
            except NotShippedError:
                pass
            except WrongNumbersError as error:
                refused.append(error)
        return self._find_or_build(
            graph, None if self._quantiser(graph) is None else open_shipped(graph), refused
        ).value

    def _fetch_compiled(self, graph: Graph, refused: list[WrongNumbersError]) -> OpenVinoEngine:
        """Of the compiled form; compiled from what shipped where there is none yet."""
        key = self._forms.key(graph)

        def build() -> Built[OpenVinoEngine]:
            shipped = require_shipped(graph)
            compiled = self._compile_draft(graph, convert_shipped(self._core, graph, shipped))
            return Built(
                write=partial(self._forms.write, compiled, shipped.references),
                use=lambda: self._start(graph, key, compiled, shipped.references),
            )

        read = partial(self._open, graph, key, refused, self._forms.read)
        return self._store.get_or_build(key, build=build, read=read).value

    def _find_or_build(
        self, graph: Graph, shipped: ShippedGraph | None, refused: list[WrongNumbersError]
    ) -> Entry[OpenVinoEngine]:
        key = self._key(graph)
        read = partial(self._open, graph, key, refused, self._read)
        return self._store.get_or_build(key, build=partial(self._build, graph, key, shipped), read=read)

    def _start(
        self, graph: Graph, key: EngineKey, compiled: Any, references: References, *, num_bytes: int = 0
    ) -> OpenVinoEngine:
        """An engine that gives what it must."""
        engine = self._engine_of(graph, key, compiled)
        check_agreement(engine, graph, references, num_inputs=num_when_loaded(num_bytes))
        return engine

    def _engine_of(self, graph: Graph, key: EngineKey, compiled: Any) -> OpenVinoEngine:
        precision = self.precision_of(graph)
        info = EngineInfo(graph.name, self.name, precision, "cpu", key.digest, self._num_streams)
        return OpenVinoEngine(compiled, graph=graph, info=info)

    def _quantiser(self, graph: Graph) -> Int8 | None:
        return self._int8 if graph.preprocess is not None else None

    def _key(self, graph: Graph) -> EngineKey:
        version = self._openvino.get_version()
        recipe = Recipe(backend=self.name, version=version, precision="any", device="any", sources=_SOURCES)
        int8 = self._quantiser(graph)
        return engine_key(graph, recipe) if int8 is None else int8.key(graph, recipe)

    def _build(self, graph: Graph, key: EngineKey, shipped: ShippedGraph | None) -> Built[OpenVinoEngine]:
        try:
            if shipped is not None:
                draft = convert_shipped(self._core, graph, shipped)
            else:
                with self._store.scratch(key) as scratch:
                    draft = convert(self._core, graph, scratch=scratch)
            if (int8 := self._quantiser(graph)) is not None:
                draft = self._quantise(int8, graph, key, draft)
        except (RuntimeError, OSError) as error:
            raise _refusal(graph, error) from error

        def use() -> OpenVinoEngine:
            return self._start(graph, key, self._compile_draft(graph, draft), draft.references)

        return Built(write=partial(self._write, draft), use=use)

    def _quantise(self, int8: Int8, graph: Graph, key: EngineKey, draft: Draft) -> Draft:
        """In eight bits; from here on it is held to what it gives now, which was found good enough."""
        model = int8.quantise(draft.model, graph)
        engine = self._engine_of(graph, key, self._compile(model.clone()))
        sizes = draft.references.sizes
        return Draft(model, References.of(engine.run(draw_inputs(graph, sizes)), sizes))

    def _write(self, draft: Draft, folder: Path) -> None:
        draft.references.write(folder)
        try:
            self._openvino.save_model(draft.model, folder / _ARTEFACT, compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(f"OpenVINO could not write its representation ({error})") from error

    def _read(self, folder: Path) -> Any:
        return self._compile(self._core.read_model(folder / _ARTEFACT))

    def _open(
        self,
        graph: Graph,
        key: EngineKey,
        refused: list[WrongNumbersError],
        read: Callable[[Path], Any],
        folder: Path,
    ) -> OpenVinoEngine:
        """What a stored folder holds, loaded and found to give what it must."""
        try:
            references, compiled = References.read(folder), read(folder)
        except (RuntimeError, OSError) as error:
            raise BrokenEntryError(f"OpenVINO refuses it: {error}") from error
        try:
            return self._start(graph, key, compiled, references, num_bytes=num_bytes_in(folder))
        except WrongNumbersError as error:
            refused.append(error)
            raise BrokenEntryError(error.detail.rstrip(".")) from error

    def _compile_draft(self, graph: Graph, draft: Draft) -> Any:
        try:
            return self._compile(draft.model)
        except RuntimeError as error:
            raise _refusal(graph, error) from error

    def _compile(self, model: Any) -> Any:
        separate_weights(model)
        return self._core.compile_model(model, "CPU", self._options)


def _refusal(graph: Graph, error: Exception) -> EngineError:
    detail = f"The graph {graph.name} does not compile with openvino."
    return EngineError(detail, graph=graph.name, reason=str(error))
