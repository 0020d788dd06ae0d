"""open_clip's pretrained tags: which hub file one means, and how its images are preprocessed.

open_clip keeps them in code that imports torch. `open_clip_tags.json` is the same table as data, so that a process
that only preprocesses inputs, or that starts from cached engines, needs no torch. `python -m
plumbline_models.networks.clip.tags` rewrites it from the installed open_clip; a test holds the two equal.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from plumbline_models.core.errors import UnknownArchError
from plumbline_models.networks.clip.archs import CLIP_PREPROCESS

TABLE: Final = Path(__file__).with_name("open_clip_tags.json")


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of the table.

    Args:
        hub: `org/repository/file`, or `org/repository/` for the repository's usual file.
        has_quick_gelu: Whether the weights were trained with QuickGELU.
        preprocess: What differs from `CLIP_PREPROCESS`.
    """

    hub: str
    has_quick_gelu: bool
    preprocess: Mapping[str, Any]


def find_tag(arch: str, tag: str) -> Tag:
    """Look a tag up; `-` and `_` are alike, and so are capitals, as in open_clip.

    Args:
        arch: An architecture of open_clip.
        tag: One of its tags.

    Raises:
        UnknownArchError: open_clip has no such tag for this architecture; the sentence lists those that it has.
    """
    wanted = tag.lower().replace("-", "_")
    tags = _stored().get(arch) or {}
    entry = tags.get(wanted) or read_open_clip().get(arch, {}).get(wanted)
    if entry is None:
        known = f"it has {', '.join(sorted(tags))}" if tags else "it has none"
        raise UnknownArchError(f"open_clip has no pretrained tag {tag} for {arch}: {known}.", arch=arch, tag=tag)
    return Tag(entry["hub"], bool(entry.get("quick_gelu", False)), entry.get("preprocess", {}))


@cache
def read_open_clip() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Every tag by architecture, from the installed open_clip; imports torch."""
    from open_clip import pretrained  # noqa: PLC0415 - torch, which a tag of the stored table never needs

    table: dict[str, dict[str, Mapping[str, Any]]] = {}
    for arch, tag in pretrained.list_pretrained():
        entry = pretrained.get_pretrained_cfg(arch, tag)
        if entry.get("hf_hub"):
            table.setdefault(arch, {})[tag] = _condense(entry)
    return table


def _condense(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    values = {
        key: list(entry[key]) if isinstance(entry[key], tuple) else entry[key]
        for key in CLIP_PREPROCESS
        if key in entry
    }
    usual = {key: list(value) if isinstance(value, tuple) else value for key, value in CLIP_PREPROCESS.items()}
    special = {key: value for key, value in values.items() if value != usual[key]}
    condensed: dict[str, Any] = {"hub": entry["hf_hub"]}
    if entry.get("quick_gelu"):
        condensed["quick_gelu"] = True
    return {**condensed, "preprocess": special} if special else condensed


@cache
def _stored() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    table: Mapping[str, Mapping[str, Mapping[str, Any]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


if __name__ == "__main__":
    TABLE.write_text(json.dumps(read_open_clip(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
