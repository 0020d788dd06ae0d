"""Weights that cannot be had are named before anything starts, all of them, with where it was looked."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline_models.backends.fake import FakeBackend
from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, ConfigError, LicenceError, SetupError
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers import build_scorers
from plumbline_models.weights.embedded import embedded_folder
from plumbline_serve.cli.main import cli
from plumbline_serve.cli.weights import demo_warning, describe, find_weights
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.machine.ports import free_port
from plumbline_serve.settings import load_settings

GOLDEN = Path(__file__).parents[2] / "golden" / "vqascore"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FAULTY = """
backend: fake
host: 127.0.0.1
scorers:
  clipscore: {arch: ViT-B-32, checkpoint: weights/pointer.safetensors}
  fclipscore: {arch: ViT-B-32, checkpoint: weights/nowhere.safetensors}
  vqascore: {model: org/absent}
  qualiclip: {arch: RN50, checkpoint: x.pth, scale: -1, max_pixels: 1}
"""


def embedded(name: str) -> Path:
    folder = embedded_folder(name)
    assert folder is not None
    return folder


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A configuration none of whose sections can be served, in a folder of its own."""
    (tmp_path / "conf" / "weights").mkdir(parents=True)
    (tmp_path / "conf" / "weights" / "pointer.safetensors").write_bytes(LFS_POINTER)
    file = tmp_path / "conf" / "plumbline.yaml"
    file.write_text(FAULTY, encoding="utf-8")
    return file


def plumbline(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without the hub: its client reads its settings once."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "COLUMNS": "400"}
    command = [sys.executable, "-m", "plumbline_serve.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=home, timeout=300)


def expected(conf: Path, home: Path) -> list[str]:
    return [
        "The checkpoint pointer.safetensors is a Git LFS pointer, not the weights: run `git lfs pull`",
        f"Looked at: {conf / 'weights' / 'pointer.safetensors'}.",
        "There is no checkpoint nowhere.safetensors.",
        f"Looked at: {conf / 'weights' / 'nowhere.safetensors'}.",
        "org/absent is not in the local hub cache and the hub cannot be reached.",
        f"Looked at: {conf / 'org' / 'absent'}, {home / 'hub'}, https://",
        "scorers.qualiclip.scale: Input should be greater than 0",
        "scorers.qualiclip.max_pixels: Input should be greater than or equal to 10000",
    ]


def test_serve_tells_every_fault_before_it_starts_anything(faulty: Path, tmp_path: Path) -> None:
    ports = "--port", str(free_port()), "--grpc-port", str(free_port())
    ran = plumbline("serve", "--config", faulty, *ports, home=tmp_path)
    assert ran.returncode == 2
    for sentence in expected(faulty.parent, tmp_path):
        assert sentence in ran.stderr
    assert "Starting" not in ran.stderr


def test_score_says_where_it_looked(faulty: Path, tmp_path: Path) -> None:
    ran = plumbline("score", "a.png", "--scorers", "fclipscore", "--config", faulty, home=tmp_path)
    assert ran.returncode == 2
    assert f"Looked at: {faulty.parent / 'weights' / 'nowhere.safetensors'}." in ran.stderr


@pytest.mark.parametrize("command", ["models", "doctor"])
def test_models_and_doctor_tell_the_same_beside_what_is_fine(command: str, faulty: Path, tmp_path: Path) -> None:
    faulty.write_text(FAULTY.replace("org/absent", str(embedded("mini-flant5"))), encoding="utf-8")
    ran = plumbline(command, "--config", faulty, home=tmp_path)
    assert ran.returncode == 1, ran.stderr
    said = " ".join(ran.stdout.split())
    for sentence in expected(faulty.parent, tmp_path):
        assert ("org" in sentence) or sentence in said, sentence
    assert "mini-flant5" in said


def test_doctor_is_not_content_with_weights_that_no_start_could_fetch(tmp_path: Path) -> None:
    file = tmp_path / "plumbline.yaml"
    file.write_text("backend: fake\nscorers: {clipscore: {arch: ViT-B-32-quickgelu, pretrained: openai}}\n")
    listed, examined = (plumbline(command, "--config", file, home=tmp_path) for command in ("models", "doctor"))
    assert "fetched at the first start" in listed.stdout
    assert examined.returncode == 1
    assert "the hub cannot be reached" in examined.stdout


def test_what_is_embedded_is_fine(tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, ["models"], env={"COLUMNS": "200"})
    assert ran.exit_code == 0
    assert ran.stdout.count("yes") == 6
    found = find_weights(load_settings(), "fetch")
    assert not any(each.fault for each in found)
    warning = demo_warning(found)
    assert warning is not None
    assert set(warning.split(":")[0].replace(",", "").split()) >= {"clipscore", "fclipscore", "vqascore", "qualiclip"}
    assert demo_warning([]) is None


@pytest.mark.parametrize(
    ("section", "names"),
    [
        pytest.param("clipscore: {{checkpoint: {}}}", ["mini-clip"], id="a folder"),
        pytest.param("clipscore: {{arch: 'local-dir:{}'}}", ["mini-clip"], id="local-dir"),
        pytest.param("clipscore: {{arch: mini-clip, checkpoint: {}/weights.safetensors}}", ["mini-clip"], id="a file"),
        pytest.param("vqascore: {{model: {}}}", ["mini-flant5", "mini-clip"], id="a checkpoint of the library"),
    ],
)
@pytest.mark.parametrize("written", ["one/{}", "./{}", "{}"])
def test_paths_are_seen_from_the_configuration_file(
    section: str, names: list[str], written: str, tmp_path: Path, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, elsewhere = tmp_path / "conf", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in names:
        shutil.copytree(embedded(name), conf / Path(written.format(name)))
    text = f"scorers:\n  {section.format(written.format(names[0]))}\n"
    (conf / "plumbline.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    for path in (conf / "plumbline.yaml", Path("../conf/plumbline.yaml")):
        found = find_weights(load_settings(path), "here")
        assert [(each.fault, each.origin is not None and each.origin.is_present) for each in found] == [
            (None, True),
            (None, True),
        ]


def test_a_hub_name_stays_one_where_there_is_no_such_folder(tmp_path: Path) -> None:
    (tmp_path / "plumbline.yaml").write_text("scorers: {vqascore: {model: zhiqiulin/clip-flant5-xl}}")
    settings = load_settings(tmp_path / "plumbline.yaml")
    assert settings.scorers == {"vqascore": {"model": "zhiqiulin/clip-flant5-xl"}}
    assert settings.folder == tmp_path
    assert pickle.loads(pickle.dumps(settings)).folder == tmp_path  # noqa: S301 - as gateways get it


def test_other_paths_of_the_file_are_seen_from_it_too_and_those_of_variables_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "cache_dir: cache\nengines: {dir: ~/engines, calibration_dir: pictures}\nauth: {keys_file: /etc/keys}\n"
    (tmp_path / "plumbline.yaml").write_text(text)
    settings = load_settings(tmp_path / "plumbline.yaml")
    assert (settings.cache_dir, settings.engines.calibration_dir) == (tmp_path / "cache", tmp_path / "pictures")
    assert settings.engines.dir == Path("~/engines").expanduser()
    assert settings.auth.keys_file == Path("/etc/keys")
    monkeypatch.setenv("PLUMBLINE_CACHE_DIR", "here")
    assert load_settings(tmp_path / "plumbline.yaml").cache_dir == Path("here")


def _lack_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


def _lack_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _lack_sizes(folder: Path) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["text_config"] = config["mm_projector_type"] = config["hidden_size"] = None
    file.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize("name", ["clip_flant5_tiny", "llava15_tiny", "qwen25vl_tiny", "smolvlm_tiny"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (None, None),
        (_lack_tokenizer, "has no tokenizer|hub cannot be reached|does not give out"),
        (_lack_weights, "holds none of model.safetensors"),
        (_cut_weights, "is damaged: it holds"),
        (_lack_sizes, "mm_projector_type|lacks its sizes"),
    ],
    ids=str,
)
def test_checkpoints_of_every_family_are_looked_through(name, harm, reason, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # for the tokenizer that is not there
    folder = tmp_path / name
    shutil.copytree(GOLDEN / name, folder)
    if harm is not None:
        harm(folder)
    (tmp_path / "plumbline.yaml").write_text(f"scorers: {{vqascore: {{model: {name}/}}}}")
    settings = load_settings(tmp_path / "plumbline.yaml")
    faults = {describe(each.fault, settings) for each in find_weights(settings, "anywhere") if each.fault}
    if reason is None:
        assert not faults
    else:
        assert len(faults) == 1
        assert re.search(reason, faults.pop())


def test_one_error_tells_of_all_sections(tmp_path: Path) -> None:
    sections = {"clipscore": {"checkpoint": str(tmp_path / "a")}, "vqascore": {"model": str(tmp_path / "b")}}
    with pytest.raises(CheckpointNotFoundError, match=r"folder a\.\nThere is no checkpoint folder b"):
        build_scorers(sections, BuildContext(FakeBackend(), EncoderRegistry()))
    with pytest.raises(SetupError) as raised:
        build_scorers({**sections, "nonsense": {}}, BuildContext(FakeBackend(), EncoderRegistry()))
    assert not isinstance(raised.value, CheckpointError | ConfigError)
    assert "There is no scorer called nonsense" in raised.value.detail


FORBIDDEN = """
backend: fake
licences: {forbid: [non-commercial]}
scorers:
  vqascore: {model: zhiqiulin/clip-flant5-xl}
  clipscore: {}
"""
SAID = "The scorer vqascore uses zhiqiulin/clip-flant5-xl, whose licence is non-commercial (research use only)"


def test_a_forbidden_licence_is_refused_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    path = tmp_path / "plumbline.yaml"
    path.write_text(FORBIDDEN, encoding="utf-8")
    listed = CliRunner().invoke(cli, ["models", "--config", str(path)])
    assert SAID in listed.stdout
    assert "mini-clip" in listed.stdout
    served = CliRunner().invoke(cli, ["serve", "--config", str(path)])
    assert isinstance(served.exception, SetupError)
    assert SAID in served.exception.detail
    with pytest.raises(LicenceError, match=re.escape(SAID)):
        make_scorers(load_settings(path))


def test_a_class_that_there_is_not_is_refused(tmp_path):
    path = tmp_path / "plumbline.yaml"
    path.write_text("licences: {forbid: [commercial]}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"licences\.forbid\.0"):
        load_settings(path)
