"""What is wrong with a configuration, all of it and not the first."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from plumbline_models.core.errors import ConfigError, SetupError

SectionT = TypeVar("SectionT", bound=BaseModel)


def parse_section(section: type[SectionT], options: Mapping[str, Any], *, scorer: str) -> SectionT:
    """Read a scorer's section of the configuration.

    Args:
        section: Its class.
        options: As configured.
        scorer: Its name, for the error.

    Raises:
        ConfigError: It does not fit; the sentence names every field that is wrong.
    """
    try:
        return section.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(explain(error, "scorers", scorer), scorer=scorer) from error


def explain(error: ValidationError, *within: str) -> str:
    """A sentence with every fault.

    Args:
        within: Names of the sections around, outermost first.
    """
    faults = (
        f"{'.'.join((*within, *(str(part) for part in fault['loc']))) or 'the top'}: "
        f"{fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    )
    return f"The configuration is not valid at {'; at '.join(faults)}."


def all_of(faults: Sequence[SetupError]) -> SetupError:
    """One error that tells of several, which are its fact `faults`; of one, itself."""
    if len(faults) == 1:
        return faults[0]
    kinds = {type(fault) for fault in faults}
    said = list(dict.fromkeys(fault.detail for fault in faults))
    kind = kinds.pop() if len(kinds) == 1 else SetupError
    return kind("\n".join(said), faults=tuple(faults))
