"""What runs a causal network's language part: one graph where the backend keeps tensors, two where it compiles."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.core.engines import Backend, Engine, EngineInfo
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.causal.collate import MIN_TAIL_TOKENS
from plumbline_models.networks.causal.published import PublishedNetwork
from plumbline_models.networks.causal.rules import KEPT_BYTES, AnswerRules, PromptRules
from plumbline_models.networks.fingerprint import fingerprint

if TYPE_CHECKING:
    from plumbline_models.networks.causal.prefix_module import PrefixModule

MAX_TAIL_TOKENS: Final = 1024
"""Of one caption, behind what nearly all prompts begin with; longer texts are refused, not cut: a cut prompt would lose
its end."""
MAX_BATCH: Final = 32
TYPICAL_TAIL_TOKENS: Final = 32

_MAX_PREFIX = 1 << 16
_KEEPS_TENSORS: Final = "torch"  # the backend whose graphs may hold what they made from one run to the next
_COMPILES: Final = frozenset({"openvino", "tensorrt", "tensorrt-rtx"})
_PACKAGES: Final = ("networks.causal", "weights")
_PREFIX_GRAPH: Final = "causal_prefix"
_FIRST: Final = ("image_encodings", "prefix_ids", "prefix_positions")
BATCH: Final = Dim("batch", 1, 8, MAX_BATCH)
_TAIL: Final = Dim("tail", MIN_TAIL_TOKENS, TYPICAL_TAIL_TOKENS, MAX_TAIL_TOKENS)
_SCORED: Final = Dim("scored", 1, 1, MAX_TAIL_TOKENS)
TAIL_IDS: Final = TensorSpec("tail_ids", "int64", (BATCH, _TAIL))


def open_causal_backend(context: BuildContext) -> Backend:
    """What runs causal networks: the configured backend where it takes their graphs.

    Elsewhere torch, which keeps prefixes on its device.
    """
    return context.backend if context.backend.name in _COMPILES else context.open_eager()


@dataclass(frozen=True, slots=True)
class PrefixNetwork(ABC):
    """A network's language part, and what is read off it behind a prefix and a tail."""

    whole: ClassVar[str]
    """The graph of both steps."""
    second: ClassVar[str]
    """The graph of the second, behind `causal_prefix`."""
    outputs: ClassVar[tuple[str, ...]]
    output_shapes: ClassVar[tuple[tuple[int | Dim, ...], ...]]
    tail_inputs: ClassVar[tuple[TensorSpec, ...]]
    """Of what is read for each caption."""

    checkpoint: PublishedNetwork
    rules: PromptRules

    @abstractmethod
    def build(self, name: str) -> "PrefixModule":
        """The module of `whole` or `second`, with its weights; imports torch."""

    def open(self, backend: Backend) -> Engine:
        """Compile it.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
            EngineError: They do not compile.
        """
        return OneGraphEngine(self, backend) if backend.name == _KEEPS_TENSORS else TwoGraphEngine(self, backend)

    def graph(self, name: str, inputs: tuple[TensorSpec, ...]) -> Graph:
        """One of the network's graphs.

        Args:
            name: `whole`, `causal_prefix` or `second`.
            inputs: In the order of the module's arguments.
        """
        facts = (name, self.checkpoint.sha256, self.checkpoint.facts, repr(self.rules))
        return Graph(
            name=name,
            inputs=inputs,
            outputs=self.outputs,
            fingerprint=fingerprint(*facts, packages=_PACKAGES),
            build=partial(_build, self, name),
            output_shapes=self.output_shapes,
            exceeds_fp16=True,
        )

    @property
    def whole_inputs(self) -> tuple[TensorSpec, ...]:
        """Of both steps in one graph."""
        key, shared = TensorSpec("image_key", "int64", (2,)), TensorSpec("num_shared", "int64", (1,))
        tokens, *prefix = self.prefix_inputs
        return (tokens, key, *prefix, shared, *self.tail_inputs)

    @property
    def prefix_inputs(self) -> tuple[TensorSpec, ...]:
        """Of what is read once per image."""
        checkpoint, prefix = self.checkpoint, Dim("prefix", 1, 512, _MAX_PREFIX)
        tokens = (checkpoint.num_levels, Dim("tokens", 1, 512, _MAX_PREFIX), checkpoint.sizes.width)
        return (
            TensorSpec("image_encodings", "float32", tokens),
            TensorSpec("prefix_ids", "int64", (prefix,)),
            TensorSpec("prefix_positions", "int64", (self.rules.num_axes, prefix)),
        )


@dataclass(frozen=True, slots=True)
class CausalNetwork(PrefixNetwork):
    """A checkpoint's language part and the rules by which it answers."""

    whole = "causal_answer"
    second = "causal_tails"
    outputs = ("answer_log_probs", "rival_log_prob")
    output_shapes = ((BATCH, _SCORED), (BATCH, 1))
    tail_inputs = (
        TAIL_IDS,
        TensorSpec("scored_at", "int64", (BATCH, _SCORED)),
        TensorSpec("answer_ids", "int64", (BATCH, _SCORED)),
    )

    rules: AnswerRules

    def build(self, name: str) -> "PrefixModule":
        """The module of a graph."""
        from plumbline_models.networks.causal.answer_module import CausalAnswer, CausalTails  # noqa: PLC0415 - torch

        kind, whole = CausalAnswer if name == self.whole else CausalTails, self.checkpoint.network
        return kind(language_part(whole.model), whole.lm_head, self.rules)


class OneGraphEngine:
    """One graph that keeps prefixes on its device."""

    def __init__(self, network: PrefixNetwork, backend: Backend) -> None:
        self._engine = backend.compile(network.graph(network.whole, network.whole_inputs))

    @property
    def info(self) -> EngineInfo:
        """Of its engine; with one stream, since what is kept of prefixes is for one thread."""
        return replace(self._engine.info, num_streams=1)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Score tails behind a prefix, as `arrange_questions` gives them."""
        return self._engine.run(inputs)


class TwoGraphEngine:
    """Two graphs; the keys and values of prefixes are kept in between, in the memory of this process."""

    def __init__(self, network: PrefixNetwork, backend: Backend) -> None:
        sizes, shared = network.checkpoint.sizes, Dim("shared", 1, 512, _MAX_PREFIX)
        states = (2 * sizes.num_layers, sizes.num_key_heads, sizes.head_width)
        read = network.prefix_inputs
        first = replace(
            network.graph(_PREFIX_GRAPH, read),
            outputs=("prefix_states",),
            output_shapes=((read[1].shape[0], *states),),
        )
        second = network.graph(
            network.second,
            (
                TensorSpec("prefix", "float32", (shared, *states)),
                TensorSpec("seen_ids", "int64", (shared,)),
                TensorSpec("start", "int64", (1,)),
                *network.tail_inputs,
            ),
        )
        self._tail_names = [spec.name for spec in network.tail_inputs]
        self._prefix, self._tails = backend.compile(first), backend.compile(second)
        self._kept: ByteBoundedCache[tuple[int, ...], Array] = ByteBoundedCache(
            KEPT_BYTES, lambda states: int(states.nbytes), keeps_newest=True
        )

    @property
    def info(self) -> EngineInfo:
        """Of the engine that reads tails; with one stream, since what is kept of prefixes is for one thread."""
        return replace(self._tails.info, num_streams=1)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Score tails behind a prefix, as `arrange_questions` gives them."""
        key, shared = tuple(inputs["image_key"].tolist()), int(inputs["num_shared"][0])
        states = self._kept.get_or_make(key, lambda: self._read({name: inputs[name] for name in _FIRST}))
        start = inputs["prefix_positions"][:, :shared].max() + 1
        return self._tails.run(
            {
                "prefix": states[:shared],
                "seen_ids": inputs["prefix_ids"][:shared],
                "start": np.array([start], dtype=np.int64),
                **{name: inputs[name] for name in self._tail_names},
            }
        )

    def _read(self, inputs: Mapping[str, Array]) -> Array:
        return self._prefix.run(inputs)["prefix_states"]


def language_part(network: Any) -> Any:
    """From embeddings to the last norm.

    Args:
        network: The transformers library's, without its head.
    """
    return getattr(network, "language_model", None) or network.text_model


def _build(network: PrefixNetwork, name: str) -> "PrefixModule":
    from plumbline_models.networks.causal.prefix_module import CausalPrefix  # noqa: PLC0415 - torch, when compiling

    if name == _PREFIX_GRAPH:
        return CausalPrefix(language_part(network.checkpoint.network.model), network.rules).eval()
    return network.build(name).eval()
