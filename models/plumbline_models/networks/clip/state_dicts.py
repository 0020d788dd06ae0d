"""A CLIP's tensors, whoever named them, sorted by tower; and a tower filled with them, each one checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.clip.activations import OPENAI_MARKS
from plumbline_models.networks.clip.hugging_face import is_hugging_face, rename

_SCALARS: Final = ("logit_scale", "logit_bias")
_NOT_WEIGHTS: Final = (*OPENAI_MARKS, "attn_mask", "text.attn_mask")
"""Kept by OpenAI's and by older open_clip's files; they say what the architecture says, and are not believed."""
_BARE_TEXT: Final = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
_STALE: Final = "embeddings.position_ids"
_NUM_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ClipTensors:
    """Float32 tensors by tower, under the names that open_clip's towers give them."""

    image: Mapping[str, Tensor]
    text: Mapping[str, Tensor]
    scalars: Mapping[str, Tensor]
    """`logit_scale` and `logit_bias`, where the checkpoint has them."""


def sort_tensors(tensors: Mapping[str, Tensor]) -> ClipTensors:
    """Sort the tensors of a CLIP.

    Args:
        tensors: As open_clip (with or without a text tower of its own), OpenAI or Hugging Face name them.

    Raises:
        StateDictError: Some belong to neither tower, or a tower has none.
    """
    known = rename(tensors) if is_hugging_face(tensors) else tensors
    image = {name.removeprefix("visual."): value for name, value in known.items() if name.startswith("visual.")}
    text = {name.removeprefix("text."): value for name, value in known.items() if _is_text(name)}
    scalars = {name: value for name, value in known.items() if name in _SCALARS}
    strange = [name for name in known if not _is_known(name)]
    if strange:
        raise StateDictError(f"The checkpoint has tensors that no CLIP has: {_list(strange)}.", names=strange)
    if not image or not text:
        raise StateDictError(f"The checkpoint has no {'text' if image else 'image'} tower.")
    return ClipTensors(image, text, scalars)


def image_tensors(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The image tower of a file that may hold it alone.

    Args:
        tensors: Of a whole CLIP or of its image tower, as open_clip, OpenAI or Hugging Face name them; the tower's own
            names without `visual.` will do.
    """
    known = rename(tensors) if is_hugging_face(tensors) else tensors
    inside = {name.removeprefix("visual."): value for name, value in known.items() if name.startswith("visual.")}
    return inside or known


def fill(tower: nn.Module, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Give a tower its weights, in place; every parameter gets one and none is left over.

    Args:
        tower: May lie on the meta device: the tensors are taken, not copied.
        tensors: By the tower's own names.
        name: Of the tower, for the error.

    Raises:
        StateDictError: Names, shapes or types differ; the sentence shows the first few.
    """
    wanted = tower.state_dict()
    missing = [key for key in wanted if key not in tensors]
    extra = [key for key in tensors if key not in wanted]
    misshapen = [
        f"{key} ({list(tensors[key].shape)} for {list(value.shape)})"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    mistyped = [
        f"{key} ({str(tensors[key].dtype).removeprefix('torch.')} for {str(value.dtype).removeprefix('torch.')})"
        for key, value in wanted.items()
        if key in tensors and tensors[key].dtype != value.dtype
    ]
    faults = {"it lacks": missing, "it has besides": extra}
    faults |= {"of another shape are": misshapen, "of another type are": mistyped}
    said = "; ".join(f"{kind} {_list(keys)}" for kind, keys in faults.items() if keys)
    if said:
        raise StateDictError(
            f"The checkpoint does not fit the {name} tower of the architecture: {said}.",
            missing=missing,
            extra=extra,
            misshapen=misshapen,
            mistyped=mistyped,
        )
    tower.load_state_dict(dict(tensors), assign=True)
    tower.eval().requires_grad_(requires_grad=False)


def _is_text(name: str) -> bool:
    return name.startswith(("text.", *_BARE_TEXT)) and name not in _NOT_WEIGHTS and not name.endswith(_STALE)


def _is_known(name: str) -> bool:
    is_dropped = name in (*_SCALARS, *_NOT_WEIGHTS) or name.startswith("text_decoder.") or name.endswith(_STALE)
    return is_dropped or name.startswith("visual.") or _is_text(name)


def _list(names: list[str]) -> str:
    rest = len(names) - _NUM_SHOWN
    return ", ".join(names[:_NUM_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
