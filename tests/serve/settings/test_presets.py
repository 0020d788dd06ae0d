"""Each preset names weights that are published, and is a configuration that only lacks them."""

import re

import pytest
from typer.testing import CliRunner

from plumbline_models.core.errors import CheckpointNotFoundError, ConfigError
from plumbline_models.weights.licences import UNKNOWN, licence_of
from plumbline_serve.cli.main import cli
from plumbline_serve.cli.weights import find_weights
from plumbline_serve.local import Plumbline
from plumbline_serve.settings import load_settings
from plumbline_serve.settings.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_lacks_nothing_but_its_weights(name: str, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PLUMBLINE_CONFIG", f"preset:{name}")
    settings = load_settings()
    assert set(settings.scorers or {}) == set(PRESETS[name].scorers)
    found = find_weights(settings, "fetch")
    lacking = {each.fault.facts.get("name") for each in found if isinstance(each.fault, CheckpointNotFoundError)}
    assert len(lacking) > 0
    assert lacking <= PRESETS[name].gigabytes.keys()
    assert not [each.fault for each in found if not isinstance(each.fault, CheckpointNotFoundError)]


@pytest.mark.parametrize("name", PRESETS)
def test_the_licence_of_all_that_a_preset_fetches_is_known(name: str) -> None:
    assert UNKNOWN not in map(licence_of, PRESETS[name].gigabytes)


def test_presets_are_listed_with_sizes_and_licences(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    listed = CliRunner().invoke(cli, ["models", "--presets"], catch_exceptions=False)
    assert listed.exit_code == 0
    for name, preset in PRESETS.items():
        (line,) = (each for each in listed.stdout.splitlines() if f"preset:{name}\t" in each)
        assert re.search(r"\d\.\d GB", line)
        assert all(licence_of(repository) in line for repository in preset.gigabytes)


def test_a_name_that_there_is_not_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no preset:nothing; there are clip-base, "):
        Plumbline("preset:nothing")
