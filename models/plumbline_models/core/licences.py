"""Classes of licences, and scorers whose weights an operator has forbidden by class."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final, Literal, TypeAlias, get_args

from plumbline_models.core.errors import LicenceError
from plumbline_models.core.protocols import Scorer
from plumbline_models.core.sections import all_of

LicenceClass: TypeAlias = Literal["permissive", "copyleft", "restricted", "non-commercial", "unknown"]
LICENCE_CLASSES: Final[tuple[LicenceClass, ...]] = get_args(LicenceClass)
HEAD: Final = "head_licence"
"""The convention under which a scorer names the licence of weights that are no encoder's."""
_PATTERNS: Final[tuple[tuple[str, LicenceClass], ...]] = (
    (r"^(unknown|see |none stated|not known|\s*$)", "unknown"),
    (r"\bnc\b|non[- ]?commercial|research|\bamlr\b", "non-commercial"),
    (r"gpl|\bby-sa\b|\bmpl\b|\bepl\b", "copyleft"),
    (r"llama|gemma|openrail|\brail\b|qwen|community|apple|\bby-nd\b|\bascl\b", "restricted"),
    (r"^(mit|apache|bsd|isc|cc0|unlicense|cc[- ]by|0bsd|zlib)\b", "permissive"),
)
"""The first that a licence meets is its class; one that meets none is unknown."""
_LEAST_FIRST: Final[tuple[LicenceClass, ...]] = ("non-commercial", "unknown", "restricted", "copyleft", "permissive")


def licence_class(licence: str) -> LicenceClass:
    """The class of a licence.

    Args:
        licence: As `Origin.licence` says it: a name or identifier, words, or several between commas.

    Returns:
        `permissive`; `copyleft`; `restricted` where terms of use come with it; `non-commercial`, which holds for
        research licences too; or `unknown`. Of several the one that allows least.
    """
    found = {_class_of_one(each.strip().lower()) for each in licence.split(",")}
    return next(each for each in _LEAST_FIRST if each in found)


def _class_of_one(licence: str) -> LicenceClass:
    for pattern, found in _PATTERNS:
        if re.search(pattern, licence):
            return found
    return "unknown"


def check_licences(scorers: Iterable[Scorer], forbidden: Collection[LicenceClass]) -> None:
    """Check that no scorer has weights of a class that is forbidden; loads nothing.

    Args:
        scorers: As built.
        forbidden: Classes.

    Raises:
        LicenceError: One has; the sentence names scorer, checkpoint and licence of each.
    """
    faults = [fault for scorer in scorers for fault in _faults(scorer, forbidden)]
    if faults:
        raise all_of(faults)


def _faults(scorer: Scorer, forbidden: Collection[LicenceClass]) -> Iterator[LicenceError]:
    for source, licence in dict.fromkeys(_licences(scorer)):
        found = licence_class(licence)
        if found in forbidden:
            yield LicenceError(
                f"The scorer {scorer.info.name} uses {source}, whose licence is {found} ({licence}): licences.forbid "
                "forbids that.",
                scorer=scorer.info.name,
                source=source,
                licence=licence,
            )


def _licences(scorer: Scorer) -> Iterator[tuple[str, str]]:
    for encoder in (scorer.image, scorer.text, scorer.pair):
        if encoder is not None:
            origin = encoder.origin()
            yield origin.source, origin.licence
    if HEAD in scorer.conventions:
        yield f"the head {scorer.conventions.get('head', '')}".strip(), scorer.conventions[HEAD]
