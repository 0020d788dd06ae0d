"""Whether weights may have been trained with another activation than their architecture computes.

Nothing in a file of OpenAI's names says which; with the wrong one scores are off, and nothing fails.
"""

import logging
from collections.abc import Collection
from functools import cache
from typing import Final

from plumbline_models.networks.clip.archs import Arch, is_known
from plumbline_models.weights.sources import LocalFile, WeightsSource

log = logging.getLogger(__name__)
OPENAI_MARKS: Final = frozenset({"input_resolution", "context_length", "vocab_size"})
"""What OpenAI's own files keep beside the weights."""


def doubt_activation(names: Collection[str], *, weights: WeightsSource, arch: Arch, source: str) -> None:
    """Warn, once, of a file of one's own whose tensors have OpenAI's names, where the architecture computes GELU.

    Args:
        names: Of the file's tensors.
        weights: Where they are from; tags and folders with a configuration state their activation.
        arch: What computes with them.
        source: The weights in words.
    """
    is_stated = not isinstance(weights, LocalFile) or arch.home is not None
    has_openai_names = "positional_embedding" in {name.removeprefix("module.") for name in names}
    if not is_stated and has_openai_names and not arch.has_quick_gelu and is_known(f"{arch.name}-quickgelu"):
        _warn(source, arch.name, is_certain=bool(OPENAI_MARKS & set(names)))


@cache
def _warn(source: str, arch: str, *, is_certain: bool) -> None:
    said = "are" if is_certain else "are named as"
    off = "scores will be off" if is_certain else "if they are, or were trained from them, scores will be off"
    log.warning(
        "The weights %s %s OpenAI's, which were trained with QuickGELU, and %s computes GELU: %s. "
        "The architecture for them is %s-quickgelu.",
        *(source, said, arch, off, arch),
    )
