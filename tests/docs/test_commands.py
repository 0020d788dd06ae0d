"""Every command that a page shows exists, with the options that it is shown with."""

import functools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from loadtests.aims import PROGRAMS
from plumbline_serve.cli.main import cli
from tests.docs.pages import PAGES, README, ROOT, blocks, name, spans, text_of

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
WITHIN = r"([A-Z_]+=\S+ )?(make|plumbline|python|pip|hf|docker|serve) \S|\.venv\S*/"
SOURCES = tuple(ROOT / folder for folder in ("serve", "models", "clients", "."))


def words_of(line: str) -> list[str]:
    """The command, without the folder that it lies in and the variables that are set for it, and its arguments."""
    words = [word for word in shlex.split(line, comments=True) if word != "…"]
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        del words[0]
    return [Path(words[0]).name, *words[1:]] if words else []


def shown(page: Path) -> list[list[str]]:
    """The commands of a page: each line of its shell blocks, and code within sentences that begins with one."""
    lines = [
        line
        for block in blocks("sh")
        if block.page == page
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    within = [span for span in spans(page) if re.match(WITHIN, span)]
    return [words for line in [*lines, *within] if (words := words_of(line))]


def options(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


def check_make(words: list[str]) -> None:
    assert words[0] in TARGETS


def check_plumbline(words: list[str]) -> None:
    group = typer.main.get_command(cli)
    assert isinstance(group, TyperGroup)
    command = group.commands[words[0]]
    if isinstance(command, TyperGroup) and len(words) > 1:
        command = command.commands[words[1]]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    assert set(options(words[1:])) <= known


def check_python(words: list[str]) -> None:
    assert words[0] == "-m", "programs are run as modules"
    path = Path(*words[1].split("."))
    found = [source / path.with_suffix(".py") for source in SOURCES if (source / path.with_suffix(".py")).is_file()]
    found += [source / path / "__main__.py" for source in SOURCES if (source / path / "__main__.py").is_file()]
    assert found, words[1]
    read = "".join(each.read_text(encoding="utf-8") for each in found[0].parent.glob("*.py"))
    for option in options(words[2:]):
        assert f'"{option}"' in read, option


def check_pip(words: list[str]) -> None:
    files = (ROOT / "pyproject.toml", ROOT / "clients" / "pyproject.toml")
    projects = [tomllib.loads(file.read_text(encoding="utf-8"))["project"] for file in files]
    extras = {each["name"]: set(each.get("optional-dependencies", ())) for each in projects}
    match = re.fullmatch(r"(\./)?([\w-]+)(?:\[([\w,]+)\])?", words[-1])
    assert match is not None
    named = match[2]
    if match[1]:
        named = tomllib.loads((ROOT / named / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    assert set((match[3] or "").split(",")) - {""} <= extras[named]


@functools.cache
def hub_names() -> str:
    models = ROOT / "models" / "plumbline_models"
    return "".join(each.read_text(encoding="utf-8") for each in [*models.rglob("*.py"), *models.rglob("*tags.json")])


def check_hf(words: list[str]) -> None:
    assert words[0] == "download"
    assert words[1] in hub_names()


def check_docker(words: list[str]) -> None:
    if words[0] == "compose":
        assert (ROOT / words[words.index("--file") + 1]).is_file()
        return
    stages = re.findall(r"^FROM .* AS (\w+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert words[words.index("--target") + 1] in stages


def check_serve(words: list[str]) -> None:
    assert (ROOT / words[-1]).is_file()


def check_activate(words: list[str]) -> None:
    (folder,) = re.findall(r"^VENV := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert words == [f"{folder}/bin/activate"]


CHECKS = {
    "make": check_make, "plumbline": check_plumbline, "python": check_python, "pip": check_pip, "hf": check_hf,
    "": check_activate, "docker": check_docker, "serve": check_serve, "curl": len,  # test_readme sends it
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist_with_their_options(page: Path):
    for command, *words in shown(page):
        try:
            CHECKS[command](words)
        except Exception as error:
            raise AssertionError(f"{name(page)} shows `{command} {' '.join(words)}`") from error


def test_every_command_of_ours_is_in_the_readme():
    group = typer.main.get_command(cli)
    assert isinstance(group, TyperGroup)
    assert {words[0] for command, *words in shown(README) if command == "plumbline"} == set(group.commands)


def test_every_target_is_in_contributing():
    shown_there = {words[0] for command, *words in shown(ROOT / "CONTRIBUTING.md") if command == "make"}
    assert TARGETS - {"help"} <= shown_there


def test_the_duration_of_the_benchmark_is_what_its_programs_may_take():
    usual = [program for program in PROGRAMS if not program.is_long]
    limit = f"{len(usual)} programs, each ended after {max(program.limit_s for program in usual) / 60:g} minutes"
    assert limit in " ".join(text_of(ROOT / "docs" / "performance_method.md").split())
