"""One command for all figures: what it runs, what it reads, what it says where something did not run."""

import json

import pytest

from loadtests.aims import PROGRAMS, ROOT, Aim, Program
from loadtests.bench import Outcome, rows, run


def program(command: str, *each: Aim, limit_s: float = 60.0) -> Program:
    return Program("trial", command, quick="--quick", limit_s=limit_s, aims=each)


@pytest.fixture
def checkout(tmp_path):
    """Writes programs where those of loadtests would lie."""
    (tmp_path / "loadtests").mkdir()
    return lambda name, text: (tmp_path / "loadtests" / name).write_text(text)


@pytest.mark.parametrize(
    ("aim", "figure", "expected"),
    [
        pytest.param(Aim("what", "a", least=1.5), 1.5, ("what", "1.5", "1.50"), id="reached"),
        pytest.param(Aim("what", "a", least=1.5), 1.49, ("what", "1.5", "1.49, missed"), id="missed from below"),
        pytest.param(Aim("what", "a", most=3.0), 3.1, ("what", "at most 3", "3.10, missed"), id="missed from above"),
        pytest.param(Aim("what", "a", most=0.0), -2.0, ("what", "at most 0", "-2.00"), id="at most nothing"),
        pytest.param(Aim("what", "a"), 0.1, ("what", "", "0.10"), id="held to nothing"),
    ],
)
def test_a_figure_is_held_to_its_aim(aim, figure, expected):
    assert rows([Outcome(program("x", aim), {"a": figure})]) == [expected]


def test_figures_are_found_by_their_path_and_missed_where_a_program_says_nothing_of_them():
    asked = program("x", Aim("there", "cases/jpeg 512/ratio"), Aim("not there", "cases/png/ratio"))
    found = rows([Outcome(asked, {"cases": {"jpeg 512": {"ratio": 2.0}}})])
    assert [measured for _, _, measured in found] == ["2.00", "not measured: trial says nothing of png"]


def test_a_program_is_run_with_its_arguments_and_its_figures_are_read(checkout, tmp_path):
    checkout("argued.py", "import json, sys; open(sys.argv[-1], 'w').write(json.dumps({'argv': sys.argv[1:-2]}))")
    assert run(program("argued --rounds 5"), tmp_path, root=tmp_path).figures == {"argv": ["--rounds", "5"]}
    assert run(program("argued --rounds 5"), tmp_path, root=tmp_path, is_quick=True).figures["argv"][-1] == "--quick"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("raise SystemExit(3)", "exit status 3", id="fails"),
        pytest.param("", "exit status 0", id="writes nothing"),
    ],
)
def test_a_program_that_finds_nothing_is_said_to(checkout, tmp_path, text, reason):
    (tmp_path / "trial.json").write_text(json.dumps({"a": 9.0}))  # of an earlier run: it must not be read again
    checkout("failing.py", text)
    outcome = run(program("failing", Aim("what", "a", 1.0)), tmp_path, root=tmp_path)
    assert reason in outcome.why
    assert rows([outcome])[0][2].startswith(f"not measured: {reason}")


def test_a_program_over_its_limit_is_ended(checkout, tmp_path):
    checkout("slow.py", "import time; time.sleep(60)")
    outcome = run(program("slow", limit_s=0.5), tmp_path, root=tmp_path)
    assert outcome.why.startswith("not done within 0.5 s")


def test_a_program_without_what_it_needs_is_not_run(tmp_path):
    lacking = Program("trial", "x", quick="", limit_s=1.0, aims=(), needs=".venv-baselines/there")
    assert run(lacking, tmp_path, root=tmp_path).why == "there is no .venv-baselines/there; `make baselines` makes it"


def test_all_programs_exist_and_take_their_arguments():
    for each in PROGRAMS:
        file, *arguments = each.command.split()
        text = (ROOT / "loadtests" / f"{file.replace('.', '/')}.py").read_text()
        for argument in (*arguments, *each.quick.split()):
            assert not argument.startswith("--") or f'"{argument}"' in text


def test_names_are_distinct():
    assert len({each.name for each in PROGRAMS}) == len(PROGRAMS)
