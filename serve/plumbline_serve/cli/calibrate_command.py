"""`plumbline calibrate`: thresholds from a file of labelled scores, and how scores follow people's judgement."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, get_args

from rich.table import Column, Table
from rich.text import Text

from plumbline_client import Calibration, Client, PlumblineClientError, Tls
from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.decisions.best_of_n import largest_certified_n
from plumbline_models.decisions.conformal import Direction, Threshold, calibrate_with_groups
from plumbline_models.decisions.correlation import Correlation, within_prompts
from plumbline_models.scorers import SCORERS
from plumbline_serve.cli.combine_argument import as_sent, read_argument
from plumbline_serve.cli.labelled_rows import Labelled, judged
from plumbline_serve.cli.results import literally, show_json, show_table
from plumbline_serve.edge.rules import calibrated_fault
from plumbline_serve.local import Plumbline
from plumbline_serve.messages import Combination
from plumbline_serve.settings import load_settings

Keeper: TypeAlias = Client | Plumbline
"""A service, or this process."""
REQUEST_MS: Final = 600_000.0


@dataclass(frozen=True, slots=True)
class Scored:
    """Whose scores they are."""

    name: str
    """Of a scorer, or of the combination."""
    combine: Mapping[str, Combination]
    """The combination by its name; empty where it is a scorer."""

    @classmethod
    def parse(cls, scorer: str | None, combine: str | None) -> Self:
        """What the arguments say.

        Args:
            scorer: Its name.
            combine: REST's `combine` as JSON, or a file of it.

        Raises:
            InvalidFieldError: There is not one scorer, or one combination.
            OSError: The file cannot be read.
        """
        found = read_argument(combine)
        if (fault := calibrated_fault(scorer, found)) is not None:
            raise InvalidFieldError(f"A calibration {fault}.")
        return cls(scorer or next(iter(found)), found)

    @property
    def higher_is_better(self) -> bool:
        """Of their values; of a combination always, and of a scorer that is not known here."""
        known = {scorer.info.name: scorer.info.higher_is_better for scorer in SCORERS}
        return bool(self.combine) or known.get(self.name, True)


@dataclass(frozen=True, slots=True)
class Promise:
    """What a threshold promises."""

    scored: Scored
    alpha: float
    direction: Direction
    confidence: float | None = None

    @classmethod
    def parse(cls, scored: Scored, alpha: float, direction: str, confidence: float | None) -> Self:
        """What the arguments say.

        Args:
            scored: Whose scores they are.
            alpha: Share that may be lost, or may pass.
            direction: Which of the two.
            confidence: None: on average.

        Raises:
            InvalidFieldError: There is no such direction.
        """
        known: tuple[Direction, ...] = get_args(Direction)
        for each in known:
            if direction == each:
                return cls(scored, alpha, each, confidence)
        raise InvalidFieldError(f"A direction is {' or '.join(known)}; this is {direction}.")


def found_here(given: Labelled, promise: Promise) -> tuple[Threshold, Mapping[str, Threshold]]:
    """The threshold of all scores, and those of their groups.

    Args:
        given: From the file.
        promise: What they promise.
    """
    return calibrate_with_groups(
        given.scores,
        given.labels,
        given.groups,
        alpha=promise.alpha,
        direction=promise.direction,
        higher_is_better=promise.scored.higher_is_better,
        confidence=promise.confidence,
    )


def keeper(config: Path | None, server: str | None, api_key: str | None, ca: Path | None) -> Keeper:
    """Where a calibration is kept: a service's store, or the one that the configuration names.

    Args:
        config: For this process.
        server: Address of a service; None: this process.
        api_key: For the service.
        ca: Authorities of its certificate.
    """
    if server is None:
        return Plumbline(load_settings(config))
    return Client(server, api_key=api_key, tls=None if ca is None else Tls(ca))


def keep(given: Labelled, promise: Promise, name: str, keeper: Keeper) -> Calibration:
    """Have a service, or this process, find the thresholds and keep them.

    Args:
        given: From the file.
        promise: What they promise.
        name: By which a filter's condition uses them.
        keeper: Where.

    Raises:
        PlumblineError: It cannot be reached, or refuses.
    """
    try:
        with keeper:
            return keeper.calibrate(
                name,
                None if promise.scored.combine else promise.scored.name,
                given.scores,
                given.labels,
                alpha=promise.alpha,
                direction=promise.direction,
                groups=given.groups,
                confidence=promise.confidence,
                combine=as_sent(promise.scored.combine),
                timeout_ms=REQUEST_MS,
            )
    except PlumblineClientError as error:
        raise PlumblineError(error.detail) from error


def correlation(file: Path, scored: Scored, score: str, human: str, prompt: str) -> Correlation:
    """How the scores of a file, towards the better, correlate with people's judgement, within prompts.

    Args:
        file: CSV or JSONL.
        scored: Whose scores they are.
        score: Their column.
        human: Column of judgements, higher is better.
        prompt: Column of prompts.
    """
    rows = judged(file, score, human, prompt)
    scores, said, prompts = zip(*rows, strict=True) if rows else ((), (), ())
    return within_prompts(scores if scored.higher_is_better else [-each for each in scores], said, prompts)


def show_thresholds(found: tuple[Threshold, Mapping[str, Threshold]], given: Labelled, *, as_json: bool) -> int:
    """Print thresholds that are not kept.

    Args:
        found: That of all, and those of groups.
        given: What they were found from.
        as_json: In the shape of REST's reply, else as a table.

    Returns:
        The exit status: 1 where there is none for all.
    """
    whole, documents = _document(found[0]), {name: _document(each) for name, each in found[1].items()}
    if as_json:
        show_json(whole | ({"groups": documents} if given.groups is not None else {}))
    else:
        show_table(_table(whole, documents), *_left_out(given))
    return int(whole["threshold"] is None)


def show_kept(kept: Calibration, given: Labelled, *, as_json: bool) -> int:
    """Print a calibration that is kept.

    Args:
        kept: As the keeper replied.
        given: What it was found from.
        as_json: As REST has it, else as a table.

    Returns:
        The exit status: 1 where there is no threshold.
    """
    if as_json:
        show_json(kept.model_dump(exclude={"request_id"}))
    else:
        documents = {name: each.model_dump() for name, each in kept.groups.items()}
        said = literally(f"Kept as {kept.name}, for {kept.scorer} of weights {kept.bound_to.weights[:12]}.")
        show_table(_table(kept.model_dump(), documents), said, *_left_out(given))
    return int(kept.threshold is None)


def show_correlation(found: Correlation, *, as_json: bool) -> int:
    """Print a correlation, and the largest N whose best is certain to gain anything.

    Args:
        found: What to print.
        as_json: As JSON, else as a table.

    Returns:
        The exit status, 0.
    """
    largest_n = largest_certified_n(found.low) if found.low > 0.0 else 1
    if as_json:
        interval = {"correlation": found.value, "correlation_interval": [found.low, found.high]}
        counts = {"num_pairs": found.num_pairs, "num_prompts": found.num_prompts}
        show_json(interval | counts | {"max_certified_n": largest_n})
        return 0
    headings = ("correlation", "low", "high", "images", "prompts", "largest certified N")
    table = Table(*(Column(each, justify="right") for each in headings))
    numbers = [f"{each:.4f}" for each in (found.value, found.low, found.high)]
    table.add_row(*numbers, str(found.num_pairs), str(found.num_prompts), str(largest_n))
    show_table(table)
    return 0


def _document(threshold: Threshold) -> dict[str, Any]:
    document = asdict(threshold)
    least_n, value = document.pop("least_n"), document.pop("value")
    detail = {} if value is not None else {"detail": f"at least {least_n} labels of the kind are needed"}
    return {"threshold": value, **document, **detail}


def _table(whole: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]) -> Table:
    headings = ("threshold", "k", "used", "coverage", "coverage 5 %")
    table = Table("group", *(Column(each, justify="right") for each in headings), "detail")
    rows: list[tuple[str | Text, Mapping[str, Any]]] = [("(all)", whole)]
    rows += [(literally(name), each) for name, each in groups.items()]
    for name, each in rows:
        shown = ["none" if each[key] is None else f"{each[key]:.6g}" for key in ("threshold",)]
        shares = ["" if each[key] is None else f"{each[key]:.4f}" for key in ("coverage", "coverage_p05")]
        table.add_row(name, *shown, str(each["k"]), str(each["num_used"]), *shares, str(each.get("detail") or ""))
    return table


def _left_out(given: Labelled) -> list[str]:
    return [f"{given.num_left_out} rows without a score or a label are left out."] if given.num_left_out else []
