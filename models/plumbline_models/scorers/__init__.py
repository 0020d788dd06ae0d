"""What turns encodings into scores: one file per scorer, and one line in `SCORERS`.

Other packages register theirs under the entry point group `plumbline.scorers`:

    [project.entry-points."plumbline.scorers"]
    agreement = "my_package.agreement:Agreement"

The entry's name is the scorer's, and nothing of the package is imported until a configuration names it.
"""

import difflib
import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, cast

from plumbline_models.core.errors import CheckpointNotFoundError, ConfigError, SetupError
from plumbline_models.core.protocols import BuildContext, Scorer, ScorerInfo
from plumbline_models.core.sections import all_of
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.fclipscore import FClipScore
from plumbline_models.scorers.hpsv2 import HpsV2
from plumbline_models.scorers.hpsv3 import HpsV3
from plumbline_models.scorers.image_similarity import ImageSimilarity
from plumbline_models.scorers.imagereward import ImageReward
from plumbline_models.scorers.integrity import Integrity
from plumbline_models.scorers.phrase_clipscore import PhraseClipScore
from plumbline_models.scorers.pickscore import PickScore
from plumbline_models.scorers.probe import Aesthetic, Nsfw, Probe
from plumbline_models.scorers.qualiclip import QualiClip
from plumbline_models.scorers.questions import Questions
from plumbline_models.scorers.refclipscore import RefClipScore
from plumbline_models.scorers.vqascore import VqaScore
from plumbline_models.weights.paths import Paths, anchored

__all__ = ["SCORERS", "anchor_sections", "build_each", "build_scorers"]

log = logging.getLogger(__name__)
SCORERS: Final[tuple[type[Scorer], ...]] = (
    *(ClipScore, FClipScore, VqaScore, QualiClip, Questions),
    *(RefClipScore, PhraseClipScore, ImageSimilarity),
    *(PickScore, HpsV2, ImageReward, HpsV3),
    *(Aesthetic, Nsfw, Probe, Integrity),
)
"""Plumbline's own, in the order in which they are listed."""
GROUP: Final = "plumbline.scorers"


def build_scorers(sections: Mapping[str, Mapping[str, Any] | None] | None, context: BuildContext) -> list[Scorer]:
    """Build the configured scorers; loads no weights.

    Args:
        sections: Options by the scorer's name, none for the defaults; None: each of our own that has embedded weights.
        context: Compiles their encoders, and lets scorers that name the same one share it.

    Returns:
        In the order of the sections, or of `SCORERS`.

    Raises:
        ConfigError: There is no such scorer, a section is not valid, or there is nothing to build.
        SetupError: What a section names cannot be had; where several sections are wrong, the sentence tells all.
    """
    if sections is None:
        return _build_embedded(context)
    if not sections:
        raise ConfigError("The configuration lists no scorers.")
    built, faults = build_each(sections, context)
    if faults:
        raise all_of(list(faults.values()))
    return built


def build_each(
    sections: Mapping[str, Mapping[str, Any] | None], context: BuildContext
) -> tuple[list[Scorer], dict[str, SetupError]]:
    """Build what can be built.

    Args:
        sections: Options by the scorer's name.
        context: As for `build_scorers`.

    Returns:
        The scorers, and what is wrong with the other sections, by their names.
    """
    built: list[Scorer] = []
    faults: dict[str, SetupError] = {}
    for name, options in sections.items():
        try:
            built.append(_find(name).build(options or {}, context))
        except SetupError as error:
            faults[name] = error
    return built, faults


def anchor_sections(sections: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The sections with their relative paths as seen from a folder; hub names and what is no path stay as they are.

    Args:
        sections: Options by the scorer's name, not validated yet.
        folder: Where the configuration lies.
    """
    return {name: _anchor(name, options, folder) for name, options in sections.items()}


def _anchor(name: str, options: Any, folder: Path) -> Any:
    try:
        paths = getattr(_find(name), "paths", {})
    except ConfigError:
        return options  # building it says what is wrong with the name
    if not isinstance(options, Mapping):
        return options
    return _anchor_within(options, paths, folder)


def _anchor_within(options: Mapping[str, Any], paths: Paths, folder: Path) -> dict[str, Any]:
    found = dict(options)
    for option, kind in paths.items():
        value = options.get(option)
        if isinstance(kind, Mapping) and isinstance(value, Mapping):
            found[option] = _anchor_within(value, kind, folder)
        elif not isinstance(kind, Mapping) and isinstance(value, str):
            found[option] = anchored(value, folder, kind)
    return found


def _find(name: str) -> type[Scorer]:
    own = {scorer.info.name: scorer for scorer in SCORERS}
    if name in own:
        return own[name]
    installed = _installed_names()
    if name in installed:
        return _load_installed(name)
    known = [*own, *installed]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
    raise ConfigError(f"There is no scorer called {name}; {hint}", scorer=name)


def _installed_names() -> list[str]:
    """Names that packages of this environment have registered, each once."""
    return list(dict.fromkeys(entry.name for entry in entry_points(group=GROUP)))


def _load_installed(name: str) -> type[Scorer]:
    """Import the scorer registered under a name.

    Raises:
        ConfigError: No package or more than one registers it, it does not import, or it is no scorer of that name.
    """
    entries = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if len(entries) != 1:
        packages = ", ".join(sorted(_package(entry) for entry in entries.values())) or "none"
        raise ConfigError(f"One package must register the scorer {name}, and not: {packages}.", scorer=name)
    (entry,) = entries.values()
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"The scorer {name} of {_package(entry)} does not import: {error}.", scorer=name, entry=entry.value
        ) from error
    info = getattr(found, "info", None)
    if not isinstance(info, ScorerInfo) or not callable(getattr(found, "build", None)):
        raise ConfigError(f"{entry.value} of {_package(entry)} is no scorer.", scorer=name)
    if info.name != name:
        raise ConfigError(f"{entry.value} is registered as {name} and calls itself {info.name}.", scorer=name)
    return cast("type[Scorer]", found)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unnamed package"


def _build_embedded(context: BuildContext) -> list[Scorer]:
    built: list[Scorer] = []
    for scorer in (each for each in SCORERS if each.info.has_embedded_weights):
        try:
            built.append(scorer.build({}, context))
        except CheckpointNotFoundError as error:
            log.warning("%s is left out: %s", scorer.info.name, error.detail)
    if not built:
        raise ConfigError("The package holds no embedded weights; name scorers and checkpoints in a configuration.")
    return built
