"""What encoders, scorers and the service gave, for tests that expect one kind of it."""

from collections.abc import Iterable
from typing import Any, TypeVar

from plumbline_models.core.errors import PlumblineError

Result = TypeVar("Result")


def succeeded(results: Iterable[Result | PlumblineError]) -> list[Result]:
    """All results; raises the first that is an error."""
    found: list[Result] = []
    for each in results:
        if isinstance(each, PlumblineError):
            raise each
        found.append(each)
    return found


def all_of_kind(kind: type[Result], results: Iterable[Any]) -> list[Result]:
    """All results, each of which is of the kind."""
    found: list[Result] = []
    for each in results:
        assert isinstance(each, kind), each
        found.append(each)
    return found
