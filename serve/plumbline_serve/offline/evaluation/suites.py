"""All suites, by the names that the command takes."""

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.evaluation.cases import Suite
from plumbline_serve.offline.evaluation.choices import Hpdv2, Winoground
from plumbline_serve.offline.evaluation.correlations import Flickr8kExpert, GenAiBench, KonIq10k, Tifa160
from plumbline_serve.offline.evaluation.foils import Foil, NocapsFoil, Scenes

_ALL: tuple[Suite, ...] = (
    Scenes(), Tifa160(), GenAiBench(), Winoground(), Foil(), NocapsFoil(), KonIq10k(), Flickr8kExpert(), Hpdv2(),
)  # fmt: skip
SUITES = {suite.name: suite for suite in _ALL}


def suite_of(name: str) -> Suite:
    """The suite of that name.

    Raises:
        InvalidFieldError: There is none.
    """
    if suite := SUITES.get(name):
        return suite
    raise InvalidFieldError(f"There is no suite {name!r}; there are {', '.join(SUITES)}.")
