"""A suite scored in this process, once per precision."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, get_args

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.precision import PrecisionChoice
from plumbline_models.scorers import SCORERS
from plumbline_serve.offline.evaluation.cases import Cases, Figure, Result, Suite
from plumbline_serve.offline.facts import RunFacts
from plumbline_serve.offline.progress import Meter
from plumbline_serve.offline.rows import Row
from plumbline_serve.offline.runners.chunks import Scored
from plumbline_serve.offline.runners.in_process import InProcessRunner
from plumbline_serve.settings import Settings

MakeMeter: TypeAlias = Callable[[int | None, int], AbstractContextManager[Meter]]


@dataclass(slots=True)
class Evaluated:
    """A suite's figures by scorer, for each precision in turn."""

    suite: Suite
    precisions: list[str] = field(default_factory=list)
    """As asked for; what `auto` came to stands in `facts`."""
    figures: dict[str, list[Mapping[str, Figure]]] = field(default_factory=dict)
    """By scorer: of each precision the figures by measure."""
    facts: list[RunFacts] = field(default_factory=list)
    num_rows: int = 0
    num_failed: int = 0
    """Rows without a value of some scorer, over all precisions."""
    first_problem: str | None = None
    """Why the first of them has none."""


def evaluate(
    suite: Suite, data: Path | None, settings: Settings, *, precisions: Sequence[str], scorers: Sequence[str] | None
) -> Callable[[MakeMeter], Evaluated]:
    """Read a suite; what comes back scores it.

    Args:
        suite: Which.
        data: The folder of its files.
        settings: With what.
        precisions: In which; none: that of the settings.
        scorers: By name; None: those of the suite that are configured.

    Raises:
        InvalidFieldError: Files, precisions or scorers are not there.
    """
    if unknown := [each for each in precisions if each not in get_args(PrecisionChoice)]:
        raise InvalidFieldError(
            f"There is no precision {unknown[0]!r}; there are {', '.join(get_args(PrecisionChoice))}."
        )
    names = list(scorers or _configured(suite, settings))
    if not names:
        raise InvalidFieldError(f"{suite.name} is about {', '.join(suite.scorers)}; none of them is configured.")
    cases = suite.read(data)
    wanted = list(precisions) or [settings.precision]

    def run(meter: MakeMeter) -> Evaluated:
        found = Evaluated(suite, figures={name: [] for name in names}, num_rows=len(cases.rows))
        for precision in wanted:
            chosen = settings.model_copy(update={"precision": precision})
            _add(found, cases, chosen, names, meter)
        return found

    return run


def _add(found: Evaluated, cases: Cases, settings: Settings, names: Sequence[str], meter: MakeMeter) -> None:
    results: dict[str, list[Result | None]] = {name: [] for name in names}
    with InProcessRunner(settings, names) as runner, meter(len(cases.rows), 0) as shown:
        for scored in _each(runner, cases.rows):
            answers = [_answer(scored, name) for name in names]
            for name, answer in zip(names, answers, strict=True):
                results[name].append(answer)
            has_failed = None in answers
            found.num_failed += has_failed
            if has_failed and found.first_problem is None:
                found.first_problem = _problem(scored, names)
            shown.advance(1, int(has_failed))
        found.facts.append(runner.facts)
    found.precisions.append(settings.precision)
    for name in names:
        judged = cases.judge(name, results[name]) if any(each is not None for each in results[name]) else []
        found.figures[name].append({each.measure: each for each in judged})


def _each(runner: InProcessRunner, rows: Iterable[Row]) -> Iterable[Scored]:
    return runner.score(rows)


def _answer(scored: Scored, name: str) -> Result | None:
    score: Result | None = scored.result.get("scores", {}).get(name)
    return None if score is None or "error" in score else score


def _problem(scored: Scored, names: Sequence[str]) -> str:
    """What is said of a row without a value of some scorer."""
    result = scored.result
    errors = [result.get("error"), *(result.get("scores", {}).get(name, {}).get("error") for name in names)]
    return next((str(each["detail"]) for each in errors if each), "it is not scored by all of them")


def _configured(suite: Suite, settings: Settings) -> list[str]:
    """The suite's scorers among those that the settings load."""
    embedded = [each.info.name for each in SCORERS if each.info.has_embedded_weights]
    loaded = embedded if settings.scorers is None else list(settings.scorers)
    return [name for name in suite.scorers if name in loaded]
