"""What runs a causal network's language part: one graph where the backend keeps tensors, two where it compiles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from plumbline_models.core.arrays import Array
from plumbline_models.core.byte_bounded_cache import ByteBoundedCache
from plumbline_models.core.engines import Backend, Engine, EngineInfo
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint
from plumbline_models.networks.causal.collate import MIN_TAIL_TOKENS
from plumbline_models.networks.causal.rules import KEPT_BYTES, AnswerRules
from plumbline_models.networks.fingerprint import fingerprint

if TYPE_CHECKING:
    from plumbline_models.networks.causal.answer_module import CausalModule

MAX_TAIL_TOKENS: Final = 1024
"""Behind the image; longer texts are refused, not cut: a cut prompt would lose the question's end."""
MAX_BATCH: Final = 32
TYPICAL_TAIL_TOKENS: Final = 32

_MAX_PREFIX = 1 << 16
_KEEPS_TENSORS: Final = "torch"  # the backend whose graphs may hold what they made from one run to the next
_PACKAGES: Final = ("networks.causal", "weights")
_FIRST: Final = ("image_encodings", "prefix_ids", "prefix_positions")


@dataclass(frozen=True, slots=True)
class CausalNetwork:
    """A checkpoint's language part and the rules by which it answers."""

    checkpoint: CausalCheckpoint
    rules: AnswerRules

    def open(self, backend: Backend) -> Engine:
        """Compile it.

        Raises:
            CheckpointError: The weights are not there, or do not fit.
            EngineError: They do not compile.
        """
        return OneGraphEngine(self, backend) if backend.name == _KEEPS_TENSORS else TwoGraphEngine(self, backend)

    def graph(self, name: str, inputs: tuple[TensorSpec, ...]) -> Graph:
        """One of the graphs of `causal_answer`.

        Args:
            name: `causal_answer`, `causal_prefix` or `causal_tails`.
            inputs: In the order of the module's arguments.
        """
        facts = (name, self.checkpoint.sha256, self.checkpoint.facts, repr(self.rules))
        build = partial(_build, self, name)
        batch, scored = self.tail_inputs[-1].shape
        return Graph(
            name=name,
            inputs=inputs,
            outputs=("answer_log_probs", "rival_log_prob"),
            fingerprint=fingerprint(*facts, packages=_PACKAGES),
            build=build,
            output_shapes=((batch, scored), (batch, 1)),
            exceeds_fp16=True,
        )

    @property
    def answer_inputs(self) -> tuple[TensorSpec, ...]:
        """Of both in one graph."""
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

    @property
    def tail_inputs(self) -> tuple[TensorSpec, ...]:
        """Of what is read for each caption."""
        batch = Dim("batch", 1, 8, MAX_BATCH)
        tail = Dim("tail", MIN_TAIL_TOKENS, TYPICAL_TAIL_TOKENS, MAX_TAIL_TOKENS)
        scored = Dim("scored", 1, 1, MAX_TAIL_TOKENS)
        return (
            TensorSpec("tail_ids", "int64", (batch, tail)),
            TensorSpec("scored_at", "int64", (batch, scored)),
            TensorSpec("answer_ids", "int64", (batch, scored)),
        )


class OneGraphEngine:
    """One graph that keeps prefixes on its device."""

    def __init__(self, network: CausalNetwork, backend: Backend) -> None:
        self._engine = backend.compile(network.graph("causal_answer", network.answer_inputs))

    @property
    def info(self) -> EngineInfo:
        """Of its engine; with one stream, since what is kept of prefixes is for one thread."""
        return replace(self._engine.info, num_streams=1)

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Score tails behind a prefix, as `arrange_questions` gives them."""
        return self._engine.run(inputs)


class TwoGraphEngine:
    """Two graphs; the keys and values of prefixes are kept in between, in the memory of this process."""

    def __init__(self, network: CausalNetwork, backend: Backend) -> None:
        sizes, shared = network.checkpoint.sizes, Dim("shared", 1, 512, _MAX_PREFIX)
        states = (2 * sizes.num_layers, sizes.num_key_heads, sizes.head_width)
        read = network.prefix_inputs
        first = replace(
            network.graph("causal_prefix", read),
            outputs=("prefix_states",),
            output_shapes=((read[1].shape[0], *states),),
        )
        second = network.graph(
            "causal_tails",
            (
                TensorSpec("prefix", "float32", (shared, *states)),
                TensorSpec("seen_ids", "int64", (shared,)),
                TensorSpec("start", "int64", (1,)),
                *network.tail_inputs,
            ),
        )
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
        tails = {name: inputs[name] for name in ("tail_ids", "scored_at", "answer_ids")}
        return self._tails.run(
            {
                "prefix": states[:shared],
                "seen_ids": inputs["prefix_ids"][:shared],
                "start": np.array([start], dtype=np.int64),
                **tails,
            }
        )

    def _read(self, inputs: Mapping[str, Array]) -> Array:
        return self._prefix.run(inputs)["prefix_states"]


def _build(network: CausalNetwork, name: str) -> "CausalModule":
    from plumbline_models.networks.causal import answer_module  # noqa: PLC0415 - torch, when compiling

    kinds: Mapping[str, Callable[..., CausalModule]] = {
        "causal_answer": answer_module.CausalAnswer,
        "causal_prefix": answer_module.CausalPrefix,
        "causal_tails": answer_module.CausalTails,
    }
    whole = network.checkpoint.network
    language = getattr(whole.model, "language_model", None) or whole.model.text_model
    return kinds[name](language, whole.lm_head, network.rules).eval()
