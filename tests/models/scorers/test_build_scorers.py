import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import ConfigError
from plumbline_models.core.protocols import BuildContext, Scorer
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers import SCORERS, build_scorers

WITHOUT_PAPER = {"probe", "integrity"}


@pytest.fixture
def context(torch_fp32: Backend) -> BuildContext:
    return BuildContext(torch_fp32, EncoderRegistry())


def test_every_scorer_says_what_it_answers() -> None:
    infos = [scorer.info for scorer in SCORERS]
    assert len({info.name for info in infos}) == len(infos)
    for info in infos:
        assert info.summary.endswith(".")
        assert info.needs
        assert info.source.startswith("arXiv:") or info.name in WITHOUT_PAPER


def test_only_the_configured_scorers_are_built(tiny_folder: Path, context: BuildContext) -> None:
    [scorer] = build_scorers({"clipscore": {"checkpoint": str(tiny_folder)}}, context)
    assert scorer.info.name == "clipscore"


def test_scorers_that_name_the_same_encoder_share_it(tiny_folder: Path, context: BuildContext) -> None:
    section = {"clipscore": {"checkpoint": str(tiny_folder)}}
    [first], [second] = build_scorers(section, context), build_scorers(section, context)
    assert first.image is second.image
    assert first.text is second.text


def test_an_empty_section_means_the_embedded_weights(context: BuildContext) -> None:
    sections: list[dict[str, Any] | None] = [{}, None]
    for section in sections:
        [scorer] = build_scorers({"clipscore": section}, context)
        assert scorer.image is not None
        assert scorer.image.key == "mini-clip/image"


def test_without_sections_every_scorer_is_built_or_said_to_be_left_out(
    context: BuildContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        built: list[Scorer] = build_scorers(None, context)
    names = [scorer.info.name for scorer in SCORERS if scorer.info.has_embedded_weights]
    left_out = [message.split(" ")[0] for message in caplog.messages if "is left out" in message]
    assert built[0].info.name == "clipscore"
    assert [scorer.info.name for scorer in built] == [name for name in names if name not in left_out]


@pytest.mark.parametrize(("name", "hint"), [("clip_score", "did you mean clipscore"), ("fid", "there are .*clipscore")])
def test_an_unknown_scorer_is_answered_with_what_there_is(name: str, hint: str, context: BuildContext) -> None:
    with pytest.raises(ConfigError, match=f"no scorer called {name}; {hint}"):
        build_scorers({name: {}}, context)


def test_a_configuration_without_scorers_is_refused(context: BuildContext) -> None:
    with pytest.raises(ConfigError, match="lists no scorers"):
        build_scorers({}, context)


@pytest.fixture
def measured(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder that says from where on a word is misaligned to its weights."""
    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "open_clip_config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"plumbline": {"fclipscore_epsilon": -0.002}}
    file.write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def test_fclipscore_takes_the_epsilon_that_was_measured_for_its_weights(
    tiny_folder: Path, measured: Path, context: BuildContext
) -> None:
    sections: list[dict[str, Any]] = [{"checkpoint": measured}, {"checkpoint": measured, "epsilon": -0.5}]
    sections.append({"checkpoint": tiny_folder})
    built = [build_scorers({"fclipscore": {**section, "layers": 1}}, context)[0] for section in sections]
    assert [scorer.conventions["epsilon"] for scorer in built] == ["-0.002", "-0.5", "-5e-05"]


def test_the_embedded_encoder_has_an_epsilon_of_its_own(context: BuildContext) -> None:
    [embedded] = build_scorers({"fclipscore": {}}, context)
    assert float(embedded.conventions["epsilon"]) < -1e-4
