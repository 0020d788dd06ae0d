"""The tiny graphs with other weights, and stand-ins for what loads engines, which takes a driver."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file

from plumbline_models.backends.tensorrt.compiler import PlanSpec
from plumbline_models.backends.torch_backend import TorchBackend
from plumbline_models.core.arrays import Array
from plumbline_models.core.engines import EngineInfo
from plumbline_models.core.errors import EngineError
from plumbline_models.core.graph import Graph

Weights = dict[str, Array]


def with_other_weights(graph: Graph, seed: int) -> Graph:
    """The same architecture after some training, as it were."""
    name = f"{graph.fingerprint} {seed}"
    fingerprint = hashlib.sha256(name.encode()).hexdigest()
    _BUILDERS[fingerprint] = partial(_build_other, graph, seed)
    return replace(graph, fingerprint=fingerprint, build=_BUILDERS[fingerprint])


def _build_other(graph: Graph, seed: int) -> Any:
    module = graph.build()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return module


class EvaluatedEngine:
    """Runs a stripped graph with the weights that it is given, node by node."""

    def __init__(self, graph: Graph, weights: Weights, model: onnx.ModelProto) -> None:
        self.info = EngineInfo(graph=graph.name, backend="tensorrt-rtx", precision="fp32", device="cuda", key="")
        self._outputs = graph.outputs
        self._weights = weights
        self._evaluator = ReferenceEvaluator(model)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        results = self._evaluator.run(None, {**inputs, **self._weights})
        return dict(zip(self._outputs, results, strict=True))


_BUILDERS: dict[str, Callable[[], Any]] = {}


class FullEngine:
    """What stands for an engine with its weights inside, which nothing here can run: torch computes in its place."""

    def __init__(self, graph: Graph) -> None:
        self.info = EngineInfo(graph=graph.name, backend="tensorrt-rtx", precision="fp32", device="cuda", key="full")
        buildable = replace(graph, build=_BUILDERS[graph.fingerprint])
        self._torch = TorchBackend(torch.device("cpu"), precision="fp32").compile(buildable)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._torch.run(inputs)


class EvaluatingLoader:
    """Stands in for the runtime alone: what it loads are plans that were really built, with weights really stored.

    Args:
        spoil: Changes weights on their way to the GPU.
        num_refused: How many plans it refuses to open first.
    """

    def __init__(self, *, spoil: Callable[[Weights], Weights] = dict, num_refused: int = 0) -> None:
        self._spoil = spoil
        self._num_refused = num_refused

    def open(self, graph: Graph, content: Any) -> Any:
        if self._num_refused > 0:
            self._num_refused -= 1
            raise EngineError("It is for another GPU.", graph=graph.name, reason="another GPU")
        return content

    def start(self, spec: PlanSpec, opened: Any) -> Any:
        if spec.parts is None:
            return FullEngine(spec.graph)
        weights = self._spoil(load_file(spec.parts.weights_file))
        return EvaluatedEngine(spec.graph, weights, onnx.load(spec.parts.onnx_file))


def swapped(weights: Weights) -> Weights:
    """Two of the same shape in each other's place."""
    names = sorted(weights)
    first, second = next(
        (one, other)
        for index, one in enumerate(names)
        for other in names[index + 1 :]
        if weights[one].shape == weights[other].shape
    )
    return {**weights, first: weights[second], second: weights[first]}


def with_a_nan(weights: Weights) -> Weights:
    name = max(weights, key=lambda each: weights[each].size)
    spoiled = weights[name].copy()
    spoiled[...] = np.nan
    return {**weights, name: spoiled}
