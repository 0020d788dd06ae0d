"""What scripts read of the command: its version, its help, values and documents."""

import csv
import io
import json
from importlib.metadata import version

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from plumbline_serve.cli.main import cli
from plumbline_serve.cli.results import show_table


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    ran = CliRunner().invoke(cli, arguments, env={"PLUMBLINE_BACKEND": "fake", **environment})
    return ran.exit_code, ran.stdout


def test_the_version_is_that_of_the_distribution() -> None:
    assert run("--version") == (0, f"plumbline {version('plumbline-serve')}\n")


@pytest.mark.parametrize("command", [[], ["serve"], ["score"], ["models"], ["keys", "new"]], ids=" ".join)
def test_help_has_a_short_name(command: list[str]) -> None:
    assert run(*command, "-h") == run(*command, "--help")
    assert "--help" in run(*command, "-h")[1]


def test_shells_can_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    status, script = run("--show-completion", "bash")
    assert status == 0
    assert "complete" in script


def test_a_table_is_tab_separated_values_where_no_terminal_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("image", "note")
    table.add_row(Text("a.png"), Text("two\nlines"))
    table.add_row("b.png", "[green]ok[/]")
    show_table(table, Text("2 rows"))
    printed = capsys.readouterr()
    assert list(csv.reader(io.StringIO(printed.out), delimiter="\t")) == [
        ["image", "note"], ["a.png", "two lines"], ["b.png", "ok"],
    ]  # fmt: skip
    assert printed.err == "2 rows\n"


def test_models_and_doctor_print_documents() -> None:
    scorers = json.dumps({"clipscore": {}, "qualiclip": {"arch": "RN50-quickgelu", "checkpoint": "nowhere.pth"}})
    status, text = run("models", "--json", PLUMBLINE_SCORERS=scorers)
    entries = {entry["encoder"]: entry for entry in json.loads(text)["models"]}
    clip = entries["mini-clip/image"]
    assert (clip["here"], clip["demo"], clip["scorers"], clip["fault"]) == (True, True, ["clipscore"], None)
    [missing] = [entry for entry in entries.values() if not entry["here"]]
    assert "There is no checkpoint nowhere.pth. Looked at: /" in missing["fault"]
    assert status == 1
    status, text = run("doctor", "--json", PLUMBLINE_SCORERS=scorers)
    broken = [each for each in json.loads(text)["findings"] if each["is_needed"] and not each["is_fine"]]
    assert (status, len(broken)) == (1, len([each for each in broken if "nowhere" in each["advice"]]))
