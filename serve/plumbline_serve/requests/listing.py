"""What is loaded, as callers are told of it: scorers, and the encoders behind them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from plumbline_models.core.licences import licence_class
from plumbline_models.core.protocols import EncoderInfo, Need, Scorer, ScorerInfo
from plumbline_models.weights.embedded import EMBEDDED
from plumbline_serve.messages import EncoderEntry, ScorerEntry


def loaded_entry(scorer: Scorer, infos: Mapping[str, EncoderInfo]) -> ScorerEntry:
    """A loaded scorer.

    Args:
        scorer: It.
        infos: Of what is loaded, by key.
    """
    return scorer_entry(scorer.info, _keys(scorer), scorer.conventions, infos)


def scorer_entry(
    about: ScorerInfo, encoders: Sequence[str], conventions: Mapping[str, str], infos: Mapping[str, EncoderInfo]
) -> ScorerEntry:
    """A scorer by what it computes with.

    Args:
        about: What it answers.
        encoders: Its own, by key.
        conventions: How the value is made.
        infos: Of what is loaded, by key.
    """
    used = [infos[key] for key in encoders if key in infos]
    main = used[0] if used else None
    lengths = [info.context_length for info in used if info.context_length is not None]
    return ScorerEntry(
        id=about.name,
        summary=about.summary,
        low=about.low,
        high=about.high,
        higher_is_better=about.higher_is_better,
        needs_text="text" in about.needs,
        needs=[need for need in get_args(Need) if need in about.needs],
        encoders=list(encoders),
        precision=", ".join(dict.fromkeys(info.precision for info in used)),
        backend=main.backend if main else "",
        paper=about.source,
        licence=", ".join(dict.fromkeys(info.licence for info in used)),
        conventions=conventions,
        context_length=min(lengths, default=None),
        demo=any(info.source == EMBEDDED for info in used),
    )


def encoder_entry(info: EncoderInfo, scorers: Iterable[Scorer]) -> EncoderEntry:
    """A loaded encoder.

    Args:
        info: What it says of itself.
        scorers: All that are loaded.
    """
    return EncoderEntry(
        key=info.key,
        kind=info.kind,
        arch=info.arch,
        source=info.source,
        licence=info.licence,
        licence_class=licence_class(info.licence),
        sha256=info.sha256,
        dim=info.dim,
        backend=info.backend,
        precision=info.precision,
        device=info.device,
        notes={**info.notes, **_convention_notes(info.key, scorers)},
        demo=info.source == EMBEDDED,
    )


def _keys(scorer: Scorer) -> list[str]:
    return [encoder.key for encoder in (scorer.image, scorer.text, scorer.pair) if encoder is not None]


def _reader(scorer: Scorer) -> str:
    """The last of the scorer's encoders, whose encodings no other scorer is likely to read."""
    return next(reversed(_keys(scorer)), "")


def _convention_notes(key: str, scorers: Iterable[Scorer]) -> Mapping[str, str]:
    """The conventions of the scorers that read an encoder, as notes of it, such as `qualiclip.scale`."""
    readers = [scorer for scorer in scorers if _reader(scorer) == key]
    return {f"{each.info.name}.{name}": value for each in readers for name, value in each.conventions.items()}
