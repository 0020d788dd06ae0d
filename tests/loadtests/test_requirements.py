"""Environments of baselines belong to baselines, and run on our torch."""

from loadtests.service.baseline_server import FOLDER

REQUIREMENTS = sorted((FOLDER / "requirements").iterdir())


def test_every_environment_is_of_a_baseline():
    assert REQUIREMENTS
    assert all((FOLDER / f"{file.stem}.py").is_file() for file in REQUIREMENTS)


def test_all_baselines_have_the_torch_of_our_constraints():
    constraints = (FOLDER.parents[1] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line for line in constraints if line.startswith(("torch==", "torchvision=="))}
    assert len(pinned) == 2
    for file in REQUIREMENTS:
        lines = set(file.read_text(encoding="utf-8").splitlines())
        assert "--constraint ../../../constraints.txt" in lines or pinned <= lines, file.name
