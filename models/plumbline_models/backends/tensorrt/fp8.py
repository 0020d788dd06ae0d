"""Towers in fp8: calibrated on images, and measured on others before TensorRT is given them.

Without images a shipped engine is used, whatever images it was calibrated on. Other graphs run as with `auto`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from plumbline_models.backends.agreement import References, Sizes, draw_inputs
from plumbline_models.backends.calibration import Calibration, find_shipped, no_images
from plumbline_models.backends.devices import compute_capability
from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.store.key import EngineKey, Recipe, engine_key
from plumbline_models.core.errors import ConfigError
from plumbline_models.core.graph import Graph

FP8: Final = "fp8"
FP8_DEVICE: Final = "sm89+"
"""What an engine of `tensorrt_rtx` in fp8 is bound to."""
_LEAST_CAPABILITY: Final = (8, 9)
_SOURCES: Final = (
    "backends.calibration",
    "backends.embedding_loss",
    *(f"backends.tensorrt.{name}" for name in ("choosing", "evaluating", "fp8", "quantising")),
)
_NO_IMAGES: Final = no_images(FP8)


def fp8_refusal(gpu: str) -> str | None:
    """Why a GPU does not compute in fp8, in a sentence; None: it does, as far as is known.

    Args:
        gpu: As `cuda_devices` describes it.
    """
    capability = compute_capability(gpu)
    if capability is None or tuple(map(int, capability.split("."))) >= _LEAST_CAPABILITY:
        return None
    return (
        f"fp8 takes a GPU of compute capability 8.9 (Ada) or above, and {gpu} has {capability}: set precision to auto."
    )


@dataclass(frozen=True)
class Fp8:
    """Quantises graphs that say how images are preprocessed for them, and finds them again.

    Args:
        images: The folder of those to calibrate on, read when the first key is made; None: engines were shipped.
        store: Where those are.
    """

    images: Path | None
    store: EngineStore

    def key(self, graph: Graph, recipe: Recipe) -> EngineKey:
        """What the engine is found by: the images count, where there are any; else any shipped engine will do.

        Args:
            graph: An image tower.
            recipe: Of the same graph in fp16.

        Raises:
            ConfigError: There are too few images, or none and not exactly one engine was shipped.
        """
        made = replace(recipe, precision=FP8, sources=(*recipe.sources, *_SOURCES))
        if self._calibration is not None:
            return engine_key(graph, replace(made, options={**made.options, **self._calibration.options}))
        if (found := find_shipped(self.store, engine_key(graph, made))) is not None:
            return found
        raise ConfigError(f"{_NO_IMAGES} There is none of {graph.name} for this version.", graph=graph.name)

    def quantise(self, graph: Graph, onnx_file: Path, sizes: Sizes) -> References:
        """Rewrite a graph whose products are in fp16.

        Args:
            graph: What it computes.
            onnx_file: Replaced.
            sizes: Of the fixed inputs.

        Returns:
            What it gives for those from here on: an engine is held to that, since it was found good enough.

        Raises:
            ConfigError: There are too few images.
            EngineError: The embeddings move too far.
            OSError: The disk refuses.
        """
        if self._calibration is None or graph.preprocess is None:
            raise ConfigError(_NO_IMAGES, graph=graph.name)  # what was shipped turned out to be broken
        # Imported here because they bring torch and ONNX's evaluator, which only building needs.
        from plumbline_models.backends.tensorrt.choosing import quantise_within_bounds  # noqa: PLC0415
        from plumbline_models.backends.tensorrt.evaluating import Evaluation  # noqa: PLC0415

        seen, held_out = self._calibration.split(graph.preprocess)
        quantise_within_bounds(graph, onnx_file, seen=seen, held_out=held_out)
        return References.of(Evaluation(onnx_file).run(draw_inputs(graph, sizes)), sizes)

    @cached_property
    def _calibration(self) -> Calibration | None:
        return None if self.images is None else Calibration.of(self.images.expanduser())
