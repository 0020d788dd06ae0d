import hashlib
import logging
from pathlib import Path

import pytest

from plumbline_models.checkpoints.clip_spec import ClipSection, ClipSpec, parse_section
from plumbline_models.checkpoints.sources import HubFile, LocalFile
from plumbline_models.core.errors import CheckpointNotFoundError, ChecksumError, ConfigError, UnknownArchError


def spec_of(**options: object) -> ClipSpec:
    return ClipSpec.of(parse_section(ClipSection, options, scorer="clipscore"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"architecture": "ViT-B-32"}, "architecture: Extra inputs", id="unknown field"),
        pytest.param({"arch": "ViT-B-32"}, "ViT-B-32 needs weights", id="no weights"),
        pytest.param({"arch": "ViT-B-32", "pretrained": "openai", "checkpoint": "a.pt"}, "not both", id="two sources"),
        pytest.param({"pretrained": "openai"}, "a pretrained tag needs an arch", id="tag alone"),
        pytest.param({"arch": "hf-hub:org/name", "pretrained": "openai"}, "brings its own weights", id="hub and tag"),
        pytest.param({"arch": "local-dir:x", "checkpoint": "a.pt"}, "brings its own weights", id="folder and file"),
        pytest.param({"sha256": "12ab"}, r"scorers\.clipscore\.sha256: String should match", id="half a digest"),
    ],
)
def test_a_section_that_names_no_weights_or_too_many_is_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        spec_of(**options)


def test_a_local_checkpoint_is_known_by_its_digest(tiny_folder: Path) -> None:
    file = tiny_folder / "open_clip_model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    spec = spec_of(arch="ViT-B-32", checkpoint=file)
    assert spec.name == f"ViT-B-32@{digest[:8]}"
    assert spec.source == "open_clip_model.safetensors"
    assert spec.fetch() == file


@pytest.mark.parametrize("options", ["arch", "checkpoint"])
def test_a_folder_brings_architecture_weights_and_preprocessing(options: str, tiny_folder: Path) -> None:
    spec = spec_of(**({"arch": f"local-dir:{tiny_folder}"} if options == "arch" else {"checkpoint": tiny_folder}))
    assert spec.arch.embed_dim == 24
    assert spec.arch.fit_config["resize_mode"] == "squash"
    assert spec.weights == LocalFile(tiny_folder / "open_clip_model.safetensors")


def test_a_file_without_an_architecture_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ConfigError, match="needs an arch"):
        spec_of(checkpoint=tiny_folder / "open_clip_model.safetensors")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"There is no checkpoint nowhere\.safetensors"):
        spec_of(arch="ViT-B-32", checkpoint=tmp_path / "nowhere.safetensors")


def test_a_folder_without_weights_is_named(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((tiny_folder / "open_clip_config.json").read_bytes())
    with pytest.raises(CheckpointNotFoundError, match=r"holds none of open_clip_model\.safetensors"):
        spec_of(checkpoint=tmp_path)


def test_another_file_than_the_configured_one_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ChecksumError, match=r"not 00000000… as configured"):
        spec_of(checkpoint=tiny_folder, sha256="0" * 64)


def test_the_right_digest_is_accepted_in_capitals(tiny_folder: Path) -> None:
    digest = hashlib.sha256((tiny_folder / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert spec_of(checkpoint=tiny_folder, sha256=digest.upper()).fetch().is_file()


def test_a_file_that_changes_after_start_is_noticed(tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "weights.safetensors"
    copy.write_bytes((tiny_folder / "open_clip_model.safetensors").read_bytes())
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    spec = spec_of(arch="ViT-B-32", checkpoint=copy, sha256=digest)
    copy.write_bytes(copy.read_bytes() + b"\0")
    with pytest.raises(ChecksumError):
        spec.fetch()


def test_a_tag_is_found_without_the_network() -> None:
    spec = spec_of(arch="ViT-B-32-quickgelu", pretrained="openai")
    assert spec.name == "ViT-B-32-quickgelu@openai"
    assert spec.weights == HubFile("timm/vit_base_patch32_clip_224.openai", spec.weights.names)
    assert (spec.source, spec.licence) == ("openai", "MIT")


def test_a_tag_brings_its_own_preprocessing() -> None:
    assert spec_of(arch="ViT-B-16-SigLIP", pretrained="webli").arch.fit_config["mean"] == [0.5, 0.5, 0.5]


def test_an_unknown_architecture_is_told_apart_from_missing_weights(tiny_folder: Path) -> None:
    with pytest.raises(UnknownArchError):
        spec_of(arch="ViT-Z-99", checkpoint=tiny_folder)


@pytest.mark.parametrize(
    ("arch", "tag", "advice"),
    [
        ("ViT-B-32", "openai", "whose name ends in -quickgelu"),
        ("ViT-B-32-quickgelu", "openai", None),
        ("ViT-B-32", "laion2b_s34b_b79k", None),
    ],
)
def test_weights_of_the_other_activation_are_warned_of(
    arch: str, tag: str, advice: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        spec_of(arch=arch, pretrained=tag)
    assert (advice is None and not caplog.messages) or (advice is not None and advice in caplog.text)
