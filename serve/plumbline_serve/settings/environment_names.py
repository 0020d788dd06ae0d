"""Which `PLUMBLINE_…` variables there are, and which field is meant: what is misspelt must not be passed over.

A setting that is left out has a default, and defaults are open: `PLUMBLINE_AUTH_KEYS_FILE`, with one underscore too
few, would start a service without keys.
"""

import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel, ValidationError

from plumbline_models.core.errors import ConfigError

PREFIX = "PLUMBLINE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
OTHERS = frozenset({CONFIG_VARIABLE, f"{PREFIX}API_KEY"})
"""That the command and the client read, and that are no settings."""
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""How the names end that Kubernetes gives every container for a Service `plumbline`, or one that begins so."""
LINK_VALUES = ("tcp://", "udp://", "sctp://")


def check_names(environment: Mapping[str, str], settings: type[BaseModel]) -> None:
    """Refuse variables of our prefix that are none of ours.

    Args:
        environment: Variables and their values.
        settings: The class whose fields variables may set.

    Raises:
        ConfigError: There are some; it names each, and the one that it may be meant to be.
    """
    known = {*OTHERS, *(f"{PREFIX}{name}".upper() for name in _names(settings))}
    ours = {name: value for name, value in environment.items() if name.upper().startswith(PREFIX)}
    links = {name for name, value in ours.items() if SERVICE_LINK.search(name) or value.startswith(LINK_VALUES)}
    faults = [_fault(name, known) for name in sorted(ours.keys() - links) if not _is_known(name.upper(), known)]
    faults += [
        f"{name} is a service link of Kubernetes, and no port: set enableServiceLinks: false in the pod."
        for name in sorted(links)
        if name.upper() in known
    ]
    if faults:
        raise ConfigError(" ".join(faults))


def meant(error: ValidationError, settings: type[BaseModel]) -> str:
    """Which fields those of a configuration may be meant to be that there are not; empty where none is near.

    Args:
        error: What is wrong with the configuration.
        settings: The class whose fields it has.
    """
    near: list[str] = []
    for fault in error.errors():
        if fault["type"] == "extra_forbidden":
            *within, name = map(str, fault["loc"])
            found = difflib.get_close_matches(name, _fields(settings, within), n=1)
            near += [".".join((*within, each)) for each in found]
    return f" Did you mean {' and '.join(near)}?" if near else ""


def _fields(settings: type[BaseModel], within: Iterable[str]) -> list[str]:
    """Of a section; none where it is of what callers name."""
    section = settings
    for name in within:
        field = section.model_fields.get(name)
        kind = None if field is None else field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        section = kind
    return list(section.model_fields)


def _names(settings: type[BaseModel]) -> Iterator[str]:
    """Names as variables have them; those of sections that take any field end in two underscores."""
    for name, field in settings.model_fields.items():
        yield name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (f"{name}__{inner}" for inner in _names(kind))
        elif dict in (typing.get_origin(each) or each for each in (kind, *typing.get_args(kind))):
            yield f"{name}__"


def _is_known(name: str, known: Iterable[str]) -> bool:
    return any(name == each or (each.endswith("__") and name.startswith(each)) for each in known)


def _fault(name: str, known: Iterable[str]) -> str:
    endings = [each.removeprefix(PREFIX) for each in known]
    near = difflib.get_close_matches(name.upper().removeprefix(PREFIX), endings, n=1, cutoff=0.75)
    meant = f"; did you mean {PREFIX}{near[0]}?" if near else "."
    return f"There is no variable {name}{meant}"
