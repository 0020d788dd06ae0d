"""Towers in int8: NNCF's post-training quantisation, and a check that the result is worth serving.

Products of the blocks are computed in eight bits, weights symmetric by channel, activations by tensor, with SmoothQuant
(Xiao et al., arXiv:2211.10438) and bias correction. Norms, softmax and the residual stream stay as they are, and so do
the patches' convolution and the last projection, which are a few per cent of the work. Ranges reach from the least to
the greatest value of all images, and not, as NNCF has it by default, to the mean of each image's: mini-clip's least
cosine over 80 images rose from 0.973 to 0.993 by that alone, since a value cut off is worse than a coarser step.

Where products in eight bits saturate (x86 without VNNI), weights take seven bits, since two products of 255 and 64 fit
into sixteen, and products of two activations stay as they are. Such an engine is right on every CPU, one with eight
bits only where nothing saturates; the key says which.

What an engine loses is measured before it is served: see `embedding_loss`.
"""

import contextlib
import importlib
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from plumbline_models.backends.calibration import Batch, Calibration, check_images, find_shipped, no_images
from plumbline_models.backends.embedding_loss import Embeddings, Loss, measure_loss
from plumbline_models.backends.export.quiet import quietly
from plumbline_models.backends.openvino.runtime import saturates_in_int8
from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.store.key import EngineKey, Recipe, engine_key
from plumbline_models.backends.tuning import Tuning
from plumbline_models.core.errors import BackendUnavailableError, ConfigError, EngineError
from plumbline_models.core.graph import Graph

_SOURCES: Final = ("backends.calibration", "backends.embedding_loss", "backends.openvino.int8")
"""Another quantisation makes another engine."""
_ANY_CPU: Final = "any"
_EXACT_CPU: Final = "exact-int8"
"""CPUs whose products in eight bits do not saturate."""
_NO_IMAGES: Final = no_images("int8")
_SMOOTHING: Final = 0.5  # SmoothQuant's alpha; 0.3 and 0.7 gave less on mini-clip
_QUANTISING = threading.Lock()  # NNCF's progress bars take over the standard output of the whole process


class Int8:
    """Quantises graphs that say how images are preprocessed for them, and finds them again.

    Args:
        core: The `openvino.Core` that measures them.
        images: The folder of those to calibrate on, read when the first key is made; None: engines were shipped.
        store: Where those are.
        options: What engines are compiled with where they are served.
    """

    def __init__(self, core: Any, images: Path | None, *, store: EngineStore, options: Mapping[str, Any]) -> None:
        self._core = core
        self._images = images
        self._store = store
        self._options = options

    @classmethod
    def of(cls, core: Any, tuning: Tuning, *, options: Mapping[str, Any], store: EngineStore) -> "Int8":
        """As the tuning says.

        Args:
            core: As for the class, and so are `options` and `store`.
            tuning: Names the folder of images.

        Raises:
            ConfigError: There are neither images nor engines.
        """
        check_images(tuning, "int8")
        return cls(core, tuning.calibration_dir, store=store, options=options)

    def key(self, graph: Graph, recipe: Recipe) -> EngineKey:
        """What the engine is found by: the images count, where there are any; else any shipped engine will do.

        Args:
            graph: An image tower.
            recipe: Of the same graph in float32.

        Raises:
            ConfigError: There are too few images, or none and not exactly one engine was shipped for this CPU.
        """
        made = replace(recipe, precision="int8", sources=(*recipe.sources, *_SOURCES))
        if self._calibration is not None:
            return engine_key(graph, replace(made, device=self._device, options=self._calibration.options))
        if (found := self._find_shipped(graph, made)) is not None:
            return found
        raise ConfigError(f"{_NO_IMAGES} There is none of {graph.name} for this version.", graph=graph.name)

    def quantise(self, model: Any, graph: Graph) -> Any:
        """Quantise a graph.

        Args:
            model: OpenVINO's representation in float32; left as it is.

        Raises:
            BackendUnavailableError: NNCF is not installed.
            ConfigError: There are too few images.
            EngineError: The embeddings move further than what is above.
        """
        if self._calibration is None or graph.preprocess is None:
            raise ConfigError(_NO_IMAGES, graph=graph.name)  # what was shipped turned out to be broken
        nncf = _import_nncf()
        seen, held_out = self._calibration.split(graph.preprocess)
        try:
            quantised = _quantise(nncf, model, seen, is_exact=self._device == _EXACT_CPU)
        except Exception as error:  # NNCF raises classes of its own, under no common one
            raise EngineError(
                f"The graph {graph.name} cannot be quantised; use auto.", graph=graph.name, reason=str(error)
            ) from error
        self._measure(model, quantised, seen=seen, held_out=held_out).check(graph, "int8")
        return quantised

    @cached_property
    def _device(self) -> str:
        return _ANY_CPU if saturates_in_int8(self._core) else _EXACT_CPU

    @cached_property
    def _calibration(self) -> Calibration | None:
        return None if self._images is None else Calibration.of(self._images.expanduser())

    def _find_shipped(self, graph: Graph, made: Recipe) -> EngineKey | None:
        exact, portable = (
            find_shipped(self._store, engine_key(graph, replace(made, device=device)))
            for device in (_EXACT_CPU, _ANY_CPU)
        )
        if self._device == _EXACT_CPU:
            return exact or portable
        if exact is not None and portable is None:
            raise ConfigError(
                f"The int8 engine of {graph.name} in engines.dir is for CPUs with VNNI. This CPU has none, and sums in "
                "eight bits would overflow: compile it on a CPU without VNNI, or set precision to auto.",
                graph=graph.name,
            )
        return portable

    def _measure(self, model: Any, quantised: Any, *, seen: Sequence[Batch], held_out: Sequence[Batch]) -> Loss:
        exact = self._compile(model, {**self._options, "INFERENCE_PRECISION_HINT": "f32"})
        others, before = _embed(exact, seen), _embed(exact, held_out)
        return measure_loss(before, _embed(self._compile(quantised, self._options), held_out), others)

    def _compile(self, model: Any, options: Mapping[str, Any]) -> Any:
        return self._core.compile_model(model, "CPU", dict(options))


def _import_nncf() -> Any:
    try:
        with quietly():
            return importlib.import_module("nncf")
    except ImportError as error:
        raise BackendUnavailableError(
            "Building int8 engines takes NNCF. Install it with: pip install 'plumbline-serve[int8]'.",
            backend="openvino",
        ) from error


def _quantise(nncf: Any, model: Any, batches: Sequence[Batch], *, is_exact: bool) -> Any:
    estimators = importlib.import_module("nncf.quantization.range_estimator").RangeEstimatorParametersSet
    advanced = nncf.AdvancedQuantizationParameters(
        smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTHING),
        activations_range_estimator_params=estimators.MINMAX,
        overflow_fix=None if is_exact else nncf.OverflowFix.ENABLE,
    )
    with _QUANTISING, quietly("nncf", "torch"), contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model.clone(),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=_outermost(model) + ([] if is_exact else _without_weights(model))),
            advanced_parameters=advanced,
        )


def _outermost(model: Any) -> list[str]:
    """The first convolution and the last product, where there are such."""
    nodes = model.get_ordered_ops()
    first = [node for node in nodes if node.get_type_name() == "Convolution"][:1]
    last = [node for node in nodes if node.get_type_name() == "MatMul"][-1:]
    return [node.get_friendly_name() for node in first + last]


def _without_weights(model: Any) -> list[str]:
    """Products whose both sides depend on the input, queries by keys: no weights there that could take fewer bits."""
    dependent: set[str] = set()
    names: list[str] = []
    for node in model.get_ordered_ops():
        sources = [node.input_value(index).get_node() for index in range(node.get_input_size())]
        depend = [source.get_friendly_name() in dependent for source in sources]
        if any(depend) or node.get_type_name() == "Parameter":
            dependent.add(node.get_friendly_name())
        if node.get_type_name() == "MatMul" and all(depend):
            names.append(node.get_friendly_name())
    return names


def _embed(compiled: Any, batches: Sequence[Batch]) -> Embeddings:
    return np.concatenate([np.array(compiled(dict(batch))[0]) for batch in batches])
