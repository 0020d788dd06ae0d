"""The JSON of requests, with `Image` objects where images stand; entries that a caller left open are left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from plumbline_client.images import Image
from plumbline_client.items import Combination, Item, Question
from plumbline_client.options import Priority

Document = dict[str, Any]
"""JSON-ready, but for `Image` objects."""


def claims_document(timeout_ms: float | None, priority: Priority, *, deterministic: bool = False) -> Document:
    """Make what every request may say of itself; what is as by default is left out: older services do not know it.

    Args:
        timeout_ms: When an answer is of no use any more; None: never.
        priority: How urgent it is.
        deterministic: Whether its numbers may not depend on what else is computed.
    """
    urgency = None if priority == "normal" else priority
    return given(timeout_ms=timeout_ms, priority=urgency, deterministic=deterministic or None)


def given(**entries: Any) -> Document:
    """Make an object of what is not None."""
    return {key: value for key, value in entries.items() if value is not None}


def plain(values: Iterable[Any]) -> list[Any]:
    """Make a list of an array, or of whatever holds numbers: those of numpy and torch are no JSON."""
    found: list[Any] = getattr(values, "tolist", lambda: list(values))()
    return [each.item() if hasattr(each, "item") else each for each in found]


def combine_document(combine: Mapping[str, Combination]) -> Document:
    """Make `combine`; none where there is none: older services do not know it."""
    documents = {
        name: {"method": each.method, "terms": [fields_document(term) for term in each.terms]}
        for name, each in combine.items()
    }
    return {"combine": documents} if documents else {}


def fields_document(value: Any) -> Document:
    """Make an object of a dataclass, without what is None."""
    return given(**{each.name: getattr(value, each.name) for each in fields(value)})


def items_document(items: Sequence[Item]) -> Document:
    """Make `items`, and `images` for those that several items share."""
    shared = _shared_images(items)
    keys = {id(image): key for key, image in shared.items()}
    entries = [
        given(
            id=item.id,
            image=keys.get(id(item.image), item.image),
            text=item.text,
            references=list(item.references) or None,
            reference_image=keys.get(id(item.reference_image), item.reference_image),
            phrases=list(item.phrases) or None,
            questions=[_question(each) for each in item.questions] or None,
            frames=[keys.get(id(frame), frame) for frame in item.frames] or None,
            pool=item.pool if item.frames and item.pool != "mean" else None,
            group=item.group,
        )
        for item in items
    ]
    return ({"images": shared} if shared else {}) | {"items": entries}


def _question(question: Question) -> Document:
    expected = None if question.expect == "yes" else question.expect
    parents = list(question.depends_on) or None
    return {"text": question.text} | given(expect=expected, tag=question.tag, depends_on=parents)


def _shared_images(items: Sequence[Item]) -> Mapping[str, Image]:
    seen: dict[int, tuple[Image, int]] = {}
    for named in (image for item in items for image in (item.image, item.reference_image, *item.frames)):
        if named is not None:
            image, uses = seen.get(id(named), (named, 0))
            seen[id(image)] = (image, uses + 1)
    shared = [image for image, uses in seen.values() if uses > 1]
    return {f"image-{index}": image for index, image in enumerate(shared)}
