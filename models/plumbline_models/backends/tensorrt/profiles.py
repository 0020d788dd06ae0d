"""The sizes that an engine is made for: the smallest, the one that it is tuned to, and the largest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.graph import Dim, Graph, TensorSpec

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SizeChoices:
    """What the configuration says of dimensions, by their names: `batch`, `length`, `height` and the like.

    Args:
        typical: Sizes to tune engines to; a graph's own where not given.
        largest: Sizes beyond which nothing will come; bounds what a graph itself allows.
    """

    typical: Mapping[str, int] = field(default_factory=dict)
    largest: Mapping[str, int] = field(default_factory=dict)

    def bound(self, dim: Dim) -> Dim:
        """The dimension with these choices applied.

        Raises:
            ConfigError: A choice lies outside of what the graph computes.
        """
        high = min(dim.high, self.largest.get(dim.name, dim.high))
        wanted = self.typical.get(dim.name, min(dim.typical, high))
        if high < dim.low or not dim.low <= wanted <= high:
            raise ConfigError(
                f"The size {dim.name} must lie between {dim.low} and {high}, and {wanted} was chosen as typical.",
                dimension=dim.name,
                low=dim.low,
                high=high,
            )
        return Dim(dim.name, low=dim.low, typical=wanted, high=high)


@dataclass(frozen=True, slots=True)
class InputProfile:
    """One input's three shapes."""

    name: str
    smallest: Shape
    typical: Shape
    largest: Shape


def profile_of(graph: Graph, choices: SizeChoices) -> tuple[InputProfile, ...]:
    """The three shapes of every input, in the graph's order.

    Args:
        graph: Whose inputs.
        choices: What the configuration says of their sizes.

    Raises:
        ConfigError: A choice lies outside of what the graph computes.
    """
    return tuple(_profile(spec, choices) for spec in graph.inputs)


def show_profile(profile: Sequence[InputProfile]) -> str:
    """For people and for the engine's key, for example `pixels 1x224x224x3 8x224x224x3 64x224x224x3`."""
    return "; ".join(f"{p.name} {_show(p.smallest)} {_show(p.typical)} {_show(p.largest)}" for p in profile)


def add_profile(profile: Sequence[InputProfile], builder: Any, config: Any) -> None:
    """Give a builder's configuration the profile.

    Args:
        profile: Of every input.
        builder: The library's `Builder`.
        config: Its `IBuilderConfig`.
    """
    made = builder.create_optimization_profile()
    for shapes in profile:
        made.set_shape(shapes.name, shapes.smallest, shapes.typical, shapes.largest)
    config.add_optimization_profile(made)


def _profile(spec: TensorSpec, choices: SizeChoices) -> InputProfile:
    dims = [choices.bound(size) if isinstance(size, Dim) else Dim("", size, size, size) for size in spec.shape]
    return InputProfile(
        spec.name,
        tuple(dim.low for dim in dims),
        tuple(dim.typical for dim in dims),
        tuple(dim.high for dim in dims),
    )


def _show(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)
