"""The program that Ray starts in HAProxy's place: it rewrites the configuration that Ray wrote, and becomes HAProxy.

It is run by its path in a bare interpreter and imports the standard library alone, so that it costs milliseconds. The
rules are `plan.Plan`'s; here stands only how they are applied, section by section. What it does not know, an address
to listen on or a way to a server, it refuses: HAProxy then does not start, rather than without limits.
"""

import ctypes
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

PR_SET_PDEATHSIG, SIGTERM = 1, 15  # linux/prctl.h, and asm/signal.h: the module `signal` takes long to load
STREAM_PLACES = 64
"""Of one gateway: twice what it takes, so that it refuses streams itself, at once."""
STREAMS: Mapping[str, Any] = {
    "name": "streams",
    "condition": "path /plumbline.v1.Scoring/ScoreStream",
    "server": f"maxconn {STREAM_PLACES} max-reuse 0 on-marked-down shutdown-sessions",
    "backend": ["http-reuse never", "http-request set-header x-plumbline-own-connection 1"],
}
"""Streams of gRPC: each has a connection of its own to the gateway, which counts what arrives by it."""
GRPC_RULES = (
    "http-request del-header x-plumbline-own-connection",
    "http-request del-header x-plumbline-grpc-timeout",
    "http-request set-header x-plumbline-grpc-timeout %[req.hdr(grpc-timeout)] if { req.hdr(grpc-timeout) -m found }",
)
"""What a gateway hears of a call: Ray hands on no deadline, and what a caller sends under these names is no word of
HAProxy's."""
UNSPLICED = "no option splice-request"
"""Of many requests that it has spliced, HAProxy does not notice that the caller goes away before the answer."""
NOBODY_THERE = "http-request return status 503 default-errorfiles"
"""Of the backend that stands for no application."""
_TWO_WORDS = frozenset({"errorfile", "option", "stats", "timeout"})
"""Directives whose second word says which one they are; of all others the last one counts."""
_ROUTES = frozenset({"default_backend", "use_backend"})
_RAYS_FALLBACK = "grpc_fallback_backend"  # Ray's own gRPC service, which no caller of ours uses
_MIN_ROUTE = 2


class RefusedError(Exception):
    """The configuration holds what the rules do not know."""


EXPECTED = (RefusedError, OSError, ValueError, KeyError, IndexError)
"""What keeps HAProxy from being started."""


class Section:
    """A heading, such as `frontend callers`, and the lines below it."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.lines: list[str] = []

    @property
    def kind(self) -> str:
        """The first word of the heading."""
        return self.heading.split()[0]

    @property
    def name(self) -> str:
        """The second word of the heading; empty where there is none."""
        return "".join(self.heading.split()[1:2])

    def put(self, lines: Iterable[str]) -> None:
        """Set directives, in place of what Ray has for them."""
        for line in lines:
            key = _key(line)
            self.lines = [each for each in self.lines if _key(each) != key]
            self.lines.append(line)

    def having(self, word: str) -> list[str]:
        """The lines that begin with a word."""
        return [line for line in self.lines if line.split()[0] == word]

    def routes(self) -> list[str]:
        """The names of the backends that it leads to."""
        lines = [line.split() for line in self.lines]
        return [words[1] for words in lines if words[0] in _ROUTES and len(words) >= _MIN_ROUTE]

    def __str__(self) -> str:
        return "\n    ".join([self.heading, *self.lines]) + "\n"


def rewrite(text: str, plan: Mapping[str, Any]) -> str:
    """A configuration of Ray's by our rules.

    Args:
        text: As Ray wrote it.
        plan: `plan.Plan` as a mapping.

    Raises:
        RefusedError: It holds what the rules do not know, or lacks what they need.
    """
    sections = _read(text)
    for kind, names in (("global", "globals"), ("defaults", "defaults")):
        _only([each for each in sections if each.kind == kind], f"section {kind}").put(plan[names])
    fronts = [(_front(sections, front), front) for front in plan["fronts"]]
    fronted = {section.heading for section, _ in fronts}
    for section in sections:
        if section.heading not in fronted and section.having("bind"):
            section.lines = [_page(line, plan["pages"]) for line in section.lines]
    for section, front in fronts:
        sections += _rewrite_front(section, front, sections)
    reached = {name for section, _ in fronts for name in section.routes()}
    for section in sections:
        if section.having("server") and section.name not in {*reached, _RAYS_FALLBACK}:
            raise RefusedError(f"nothing of ours leads to the servers of {section.heading!r}")
    return "\n".join(map(str, sections))


def rewrite_on_cluster(text: str) -> str:
    """A configuration of Ray's, whose gateways hear of callers that go away and of gRPC's deadlines.

    They also get each stream by a connection of its own.

    Args:
        text: As Ray wrote it; where it has no port for gRPC, little changes.
    """
    sections = _read(text)
    for section in sections:
        if section.kind == "defaults":
            section.put([UNSPLICED])
    backends = {each.name: each for each in sections if each.kind == "backend" and each.having("server")}
    for section in [each for each in sections if any(" proto h2" in line for line in each.having("bind"))]:
        names = [name for name in section.routes() if name in backends and name != _RAYS_FALLBACK]
        apart = [_apart(backends[name], STREAMS) for name in dict.fromkeys(names)]
        _lead(section, apart, [STREAMS], GRPC_RULES)
        sections += apart
    return "\n".join(map(str, sections))


def _read(text: str) -> list[Section]:
    sections: list[Section] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line[0].isspace():
            sections.append(Section(line.strip()))
        elif sections:
            sections[-1].lines.append(line.strip())
        else:
            raise RefusedError(f"{line.strip()!r} stands in no section")
    return sections


def _front(sections: Iterable[Section], front: Mapping[str, Any]) -> Section:
    """The section that listens to callers of one wire, bound as the rules say."""
    port = front["port"]
    section = _only([each for each in sections if f":{port}" in _bound(each)], f"frontend on port {port}")
    if len(section.having("bind")) != 1:
        raise RefusedError(f"{section.heading!r} listens at several addresses")
    section.lines = [line for line in section.lines if not line.startswith("bind ")]
    section.lines.insert(0, f"bind {front['bind']}")
    return section


def _bound(section: Section) -> list[str]:
    """The ports that a section listens on, as `:8000`."""
    addresses = [line.split()[1] for line in section.having("bind")]
    return [address[address.rfind(":") :] for address in addresses]


def _page(line: str, pages: Iterable[int]) -> str:
    """A line of a section that is not for callers."""
    words = line.split()
    if words[0] != "bind":
        return line
    address, _, port = words[1].rpartition(":")
    if not port.isdecimal() or int(port) not in pages:
        raise RefusedError(f"{line!r} listens where nothing of ours is")
    del address
    return f"bind 127.0.0.1:{port}"


def _rewrite_front(section: Section, front: Mapping[str, Any], sections: Iterable[Section]) -> list[Section]:
    """Set a front's rules and those of the backends behind it; returns its backends for requests apart."""
    by_name = {each.name: each for each in sections if each.kind == "backend"}
    routes = [name for name in section.routes() if name != _RAYS_FALLBACK]
    apart: list[Section] = []
    for name in dict.fromkeys(routes):
        if name not in by_name:
            raise RefusedError(f"{section.heading!r} leads to {name!r}, which is not there")
        backend = by_name[name]
        backend.lines = [line for line in backend.lines if not line.endswith(" check backup")]
        if name.startswith("default_"):
            backend.lines = [*front["backend"], NOBODY_THERE]
            continue
        backend.put(front["backend"])
        apart += [_apart(backend, lane) for lane in front["lanes"]]
        backend.lines = [_with(line, front["server"]) for line in backend.lines]
    section.put(front["frontend"])
    _lead(section, apart, front["lanes"], front["rules"])
    return apart


def _lead(section: Section, apart: Iterable[Section], lanes: Sequence[Mapping[str, Any]], rules: Iterable[str]) -> None:
    """Have a front follow rules, and lead the requests of lanes to the backends apart."""
    section.lines = _led(section.lines, {each.name for each in apart}, [lane["name"] for lane in lanes])
    section.lines[1:1] = [*rules, *(f"acl lane_{lane['name']} {lane['condition']}" for lane in lanes)]


def _apart(backend: Section, lane: Mapping[str, Any]) -> Section:
    """The same servers for a lane's requests, which have places of their own."""
    found = Section(f"backend {backend.name}-{lane['name']}")
    kept = ("errorfile", "http-reuse", "mode", "timeout")
    found.lines = [line for line in backend.lines if line.split()[0] in kept]
    found.put(lane["backend"])
    for line in backend.having("server"):
        _, name, address, *words = line.split()
        protocol, last = "proto h2 " if "h2" in words else "", " backup" if "backup" in words else ""
        found.lines.append(f"server {name} {address} {protocol}track {backend.name}/{name} {lane['server']}{last}")
    return found


def _with(line: str, options: str) -> str:
    return f"{line} {options}" if line.split(maxsplit=1)[0] == "server" else line


def _led(lines: Iterable[str], apart: Iterable[str], lanes: Sequence[str]) -> list[str]:
    """The lines of a front, with a way to each backend apart before each way to the backend that it is made of."""
    led: list[str] = []
    for line in lines:
        way, *words = line.split()
        for lane in lanes if way in _ROUTES else ():
            if (name := f"{words[0]}-{lane}") in apart:
                conditions = words[2:] if way == "use_backend" else []
                led.append(" ".join(["use_backend", name, f"if lane_{lane}", *conditions]))
        led.append(line)
    return led


def _key(line: str) -> tuple[str, ...]:
    """What a directive is, for `Section.put`."""
    words = line.removeprefix("no ").split()
    return tuple(words[: 2 if words[0] in _TWO_WORDS else 1])


def _only(found: list[Section], what: str) -> Section:
    if len(found) != 1:
        raise RefusedError(f"there is not exactly one {what}")
    return found[0]


def die_with_parent() -> None:
    """Have this process, and what it becomes, end with the process that started it; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0)


def main(arguments: list[str], become: Callable[[str, list[str]], Any] = os.execv) -> None:
    """Rewrite the configuration that is named after `-f`, and become HAProxy.

    Args:
        arguments: The file of the plan, HAProxy's own program, and what Ray gave it.
        become: Starts a program in this one's place.
    """
    plan_file, binary, *given = arguments
    with open(plan_file, encoding="utf-8") as file:  # noqa: PTH123 - pathlib takes as long to load as all else here
        plan = json.load(file)
    rewrite_files(given, lambda text: rewrite(text, plan))
    die_with_parent()
    become(binary, [binary, *given])


def rewrite_files(given: Iterable[str], change: Callable[[str], str]) -> None:
    """Change each configuration that is named after `-f`.

    Args:
        given: What Ray gave HAProxy.
        change: Makes the new text of the old one.
    """
    for before, name in itertools.pairwise(given):
        if before == "-f":
            with open(name, "r+", encoding="utf-8") as file:  # noqa: PTH123 - as above
                text = change(file.read())
                file.seek(0)
                file.write(text)
                file.truncate()


def not_started(error: Exception) -> str:
    """What is said where the configuration could not be rewritten."""
    return f"HAProxy's configuration is not as it was expected, so it is not started: {error}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EXPECTED as error:
        sys.exit(not_started(error))
