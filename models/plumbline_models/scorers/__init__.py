"""What turns rows into scores: one file a scorer, one line in `SCORERS` or in another package's entry points."""

import difflib
import logging
from collections.abc import Mapping
from typing import Any, Final

from plumbline_models.core.errors import CheckpointNotFoundError, ConfigError
from plumbline_models.core.protocols import Scorer, Workshop
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.fclipscore import FClipScore
from plumbline_models.scorers.installed import installed_names, load_installed
from plumbline_models.scorers.qualiclip import QualiClip
from plumbline_models.scorers.vqascore import VqaScore

__all__ = ["SCORERS", "build_scorers"]

log = logging.getLogger(__name__)
SCORERS: Final[tuple[type[Scorer], ...]] = (ClipScore, FClipScore, VqaScore, QualiClip)
"""Plumbline's own, in the order in which they are listed."""


def build_scorers(sections: Mapping[str, Mapping[str, Any]] | None, workshop: Workshop) -> list[Scorer]:
    """Build the configured scorers; loads no weights.

    Args:
        sections: Options by the scorer's name; None: each of our own that has embedded weights.
        workshop: Compiles their encoders, and lets scorers that name the same one share it.

    Returns:
        In the order of the sections, or of `SCORERS`.

    Raises:
        ConfigError: There is no such scorer, a section does not fit, or there is nothing to build.
        SetupError: What a section names cannot be had.
    """
    if sections is None:
        return _build_embedded(workshop)
    if not sections:
        raise ConfigError("The configuration lists no scorers.")
    return [_find(name).build(options or {}, workshop) for name, options in sections.items()]


def _find(name: str) -> type[Scorer]:
    own = {scorer.info.name: scorer for scorer in SCORERS}
    if name in own:
        return own[name]
    installed = installed_names()
    if name in installed:
        return load_installed(name)
    known = [*own, *installed]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
    raise ConfigError(f"There is no scorer called {name}; {hint}", scorer=name)


def _build_embedded(workshop: Workshop) -> list[Scorer]:
    built: list[Scorer] = []
    for scorer in SCORERS:
        try:
            built.append(scorer.build({}, workshop))
        except CheckpointNotFoundError as error:
            log.warning("%s is left out: %s", scorer.info.name, error.detail)
    if not built:
        raise ConfigError("The package holds no embedded weights; name scorers and checkpoints in a configuration.")
    return built
