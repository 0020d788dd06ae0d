"""The argument `--combine`: scores as one, read as REST reads them, and as the client sends them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from plumbline_serve.messages import Combination

if TYPE_CHECKING:
    from plumbline_client import Combination as Sent


def read_argument(combine: str | None) -> Mapping[str, Combination]:
    """Combinations by name.

    Args:
        combine: REST's `combine` as JSON, or a file of it; None: none.

    Raises:
        OSError: The file cannot be read.
        MalformedRequestError: It is not JSON.
        InvalidFieldError: It is no `combine`.
    """
    if combine is None:
        return {}
    from plumbline_serve.edge.rest.requests import read_combine  # noqa: PLC0415 - REST's schemas, for those who combine

    is_json = combine.lstrip().startswith("{")
    return read_combine(combine.encode() if is_json else Path(combine).read_bytes())


def as_sent(combine: Mapping[str, Combination]) -> "Mapping[str, Sent]":
    """The same for a client."""
    from plumbline_client import Combination as Sent  # noqa: PLC0415 - scoring in this process needs no client
    from plumbline_client import Term  # noqa: PLC0415 - the same

    return {
        name: Sent(each.method, [Term(term.scorer, term.weight, term.min, term.max) for term in each.terms])
        for name, each in combine.items()
    }
