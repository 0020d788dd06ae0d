"""Whether the weights of every configured scorer can be had: one check for `serve`, `models` and `doctor`.

`plumbline models` prints it: what the configuration would load, from where, its licence, and whether it is here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich.table import Table
from rich.text import Text

from plumbline_models.backends import ListingBackend
from plumbline_models.core.errors import CheckpointError, PlumblineError, SetupError
from plumbline_models.core.licences import check_licences
from plumbline_models.core.protocols import BuildContext, Encoder, Origin, Scorer
from plumbline_models.core.weights import Checkpoint, ReadsWeights, Seek
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers import build_each, build_scorers
from plumbline_models.weights.embedded import EMBEDDED
from plumbline_models.weights.licences import licence_of
from plumbline_serve.cli.checks import MIB
from plumbline_serve.cli.memory import Rule, needed_bytes, rule_of
from plumbline_serve.cli.results import literally, paragraphs, show_json, show_table
from plumbline_serve.configured_scorers import encoders_of
from plumbline_serve.settings import Settings
from plumbline_serve.settings.presets import PREFIX, PRESETS

OK, SOME_MISSING = 0, 1


@dataclass(frozen=True, slots=True)
class WeightsFinding:
    """The weights of one encoder, or a section of the configuration that no encoder can be built from."""

    what: str
    """The encoder's key, or `scorers.NAME`."""
    scorers: tuple[str, ...]
    origin: Origin | None = None
    fault: SetupError | None = None
    memory_bytes: int | None = None
    """What the encoder will take in its process, about; None where that is not known, and of a GPU."""


def find_weights(settings: Settings, seek: Seek) -> list[WeightsFinding]:
    """Look for the weights of every section; no fault hides another, and none is loaded.

    Args:
        settings: Their scorers, each with its section.
        seek: How far to look.
    """
    context = BuildContext(
        ListingBackend("openvino", "fp32"), EncoderRegistry(), open_torch=lambda: ListingBackend("torch", "fp32")
    )
    faults: dict[str, SetupError] = {}
    try:
        if settings.scorers:
            scorers, faults = build_each(settings.scorers, context)
        else:
            scorers = build_scorers(settings.scorers, context)
    except SetupError as fault:
        return [WeightsFinding("scorers", (), fault=fault)]
    faults |= _forbidden(scorers, settings)
    found = [WeightsFinding(f"scorers.{name}", (name,), fault=fault) for name, fault in faults.items()]
    return found + list(_look([each for each in scorers if each.info.name not in faults], seek, rule_of(settings)))


def describe(fault: PlumblineError, settings: Settings | None = None) -> str:
    """Say what is wrong in words; where weights cannot be had, with the places that were looked at.

    Args:
        fault: What is wrong; a fact `faults` holds several.
        settings: Their folder is where a name that is not on the hub would have been looked for.
    """
    if several := fault.facts.get("faults"):
        return "\n".join(dict.fromkeys(describe(each, settings) for each in cast("Sequence[SetupError]", several)))
    if not isinstance(fault, CheckpointError):
        return fault.detail
    places = [str(Path(str(fault.facts[key])).absolute()) for key in ("path", "folder") if key in fault.facts]
    if not places and (name := fault.facts.get("name")):
        from huggingface_hub import constants  # noqa: PLC0415 - a quarter of a second, and few faults are of the hub

        places = [str(constants.HF_HUB_CACHE), constants.ENDPOINT]
        places = places if settings is None else [str(settings.folder / str(name)), *places]
    return fault.detail + (f" Looked at: {', '.join(places)}." if places else "")


def demo_warning(found: Iterable[WeightsFinding]) -> str | None:
    """What people should know before they believe a score of the demonstration networks; None: no scorer has one."""
    on_demo = [each.scorers for each in found if each.origin is not None and each.origin.source == EMBEDDED]
    names = dict.fromkeys(name for scorers in on_demo for name in scorers)
    if not names:
        return None
    return (
        f"Demonstration networks answer for {', '.join(names)}: they know drawings of simple shapes, and nothing of "
        "photographs. For images of your own name real weights: docs/real_weights.md."
    )


def show_encoders(settings: Settings, seek: Seek = "here", *, as_json: bool = False) -> int:
    """Print a line per encoder, and per section that no encoder can be built from; loads no weights.

    Args:
        settings: Their scorers.
        seek: Whether what is not here is fetched first.
        as_json: Print an object for each instead.

    Returns:
        0 if all weights are on this machine and usable, 1 if some would have to be fetched, or are not.
    """
    table = Table("encoder", "for", "weights", "licence", "memory, about", "here")
    is_complete = True
    looked_for = find_weights(settings, seek)
    if as_json:
        entries = [_entry(found, settings) for found in looked_for]
        show_json({"models": entries})
        return OK if all(entry["here"] for entry in entries) else SOME_MISSING
    for found in looked_for:
        source, licence = (found.origin.source, found.origin.licence) if found.origin else ("", "")
        is_here = found.origin is not None and found.origin.is_present and found.fault is None
        here = Text("yes", "green") if is_here else Text("no: fetched at the first start", "yellow")
        if found.fault is not None:
            here = Text.assemble(("no:", "red"), " ", paragraphs(describe(found.fault, settings)))
        memory = "" if found.memory_bytes is None else f"{found.memory_bytes / MIB:,.0f} MiB"
        names = (found.what, ", ".join(found.scorers), source, licence, memory)
        table.add_row(*map(literally, names), here)
        is_complete &= is_here
    show_table(table)
    return OK if is_complete else SOME_MISSING


def show_presets() -> int:
    """Print a line per preset, with what it would fetch and the licences of that; asks nobody."""
    table = Table("--config", "what", "scorers", "fetched, about", "licence")
    for name, preset in PRESETS.items():
        size = f"{sum(preset.gigabytes.values()):.1f} GB"
        licences = "; ".join(dict.fromkeys(licence_of(repository) for repository in preset.gigabytes))
        extra = f" (the extra {preset.extra})" if preset.extra else ""
        table.add_row(
            *map(literally, (f"{PREFIX}{name}", f"{preset.summary}{extra}", ", ".join(preset.scorers), size, licences))
        )
    show_table(table)
    return OK


def _entry(found: WeightsFinding, settings: Settings) -> dict[str, Any]:
    """One encoder as JSON has it."""
    return {
        "encoder": found.what,
        "scorers": found.scorers,
        "weights": found.origin.source if found.origin else None,
        "licence": found.origin.licence if found.origin else None,
        "memory_bytes": found.memory_bytes,
        "here": found.origin is not None and found.origin.is_present and found.fault is None,
        "demo": found.origin is not None and found.origin.source == EMBEDDED,
        "fault": None if found.fault is None else describe(found.fault, settings),
    }


def _forbidden(scorers: Sequence[Scorer], settings: Settings) -> dict[str, SetupError]:
    """The scorers whose weights have a licence that the configuration forbids, with the fault."""
    faults: dict[str, SetupError] = {}
    for scorer in scorers:
        try:
            check_licences([scorer], settings.licences.forbid)
        except SetupError as fault:
            faults[scorer.info.name] = fault
    return faults


def _look(scorers: Sequence[Scorer], seek: Seek, rule: Rule | None) -> Iterator[WeightsFinding]:
    seen: list[tuple[Checkpoint, SetupError | None]] = []
    weighed: set[int] = set()
    for encoder in encoders_of(scorers):
        users = tuple(s.info.name for s in scorers if encoder.key in {each.key for each in encoders_of([s])})
        fault = _fault(encoder, seek, seen)
        inner = getattr(encoder, "inner", encoder)  # of which others may be made that share its engine
        takes = None if fault is not None or rule is None else 0 if id(inner) in weighed else needed_bytes(inner, rule)
        weighed.add(id(inner))
        yield WeightsFinding(encoder.key, users, encoder.origin(), fault, takes)


def _fault(encoder: Encoder, seek: Seek, seen: list[tuple[Checkpoint, SetupError | None]]) -> SetupError | None:
    """What is wrong with its weights; encoders that share them are looked at once."""
    reader = getattr(encoder, "inner", encoder)
    if not isinstance(reader, ReadsWeights):
        return None
    for checkpoint, known in seen:
        if checkpoint == reader.checkpoint:
            return known
    fault: SetupError | None = None
    try:
        reader.checkpoint.check(seek)
    except SetupError as error:
        fault = error
    seen.append((reader.checkpoint, fault))
    return fault
