import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from plumbline_models.core.errors import CheckpointNotFoundError, ChecksumError, ConfigError, UnknownArchError
from plumbline_models.core.sections import parse_section
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.networks.clip.archs import arch_names
from plumbline_models.networks.clip.graph import clip_image_graph, clip_text_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.weights import load_clip
from plumbline_models.weights.sources import HubFile, LocalFile


def spec_of(**options: object) -> ClipSpec:
    return ClipSpec.of(parse_section(ClipSection, options, scorer="clipscore"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"architecture": "ViT-B-32"}, "architecture: Extra inputs", id="unknown field"),
        pytest.param({"arch": "ViT-B-32"}, "ViT-B-32 needs weights", id="no weights"),
        pytest.param({"arch": "vit_b_32"}, "Did you mean ViT-B-32", id="misspelt and no weights"),
        pytest.param({"arch": "openai/clip-vit"}, "Did you mean hf-hub:openai/clip-vit", id="a bare hub name"),
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
    assert spec.arch.preprocess_config["resize_mode"] == "squash"
    assert spec.weights == LocalFile(tiny_folder / "open_clip_model.safetensors")


def test_folders_of_equal_weights_that_preprocess_in_two_ways_are_two_encoders(
    tiny_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / tiny_folder.name
    shutil.copytree(tiny_folder, other)
    assert spec_of(checkpoint=other).name == spec_of(checkpoint=tiny_folder).name
    config = other / "open_clip_config.json"
    config.write_text(config.read_text().replace('"squash"', '"shortest"'))
    assert spec_of(checkpoint=other).name != spec_of(checkpoint=tiny_folder).name


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


@pytest.mark.parametrize("is_named", [True, False], ids=["by an architecture", "by its own configuration"])
def test_shards_in_a_folder_are_one_checkpoint(tiny_folder: Path, tmp_path: Path, *, is_named: bool) -> None:
    whole = tiny_folder / "open_clip_model.safetensors"
    tensors = load_file(whole)
    shards = {f"model-{index}-of-2.safetensors": list(tensors)[index::2] for index in (0, 1)}
    for shard, names in shards.items():
        save_file({name: tensors[name] for name in names}, tmp_path / shard)
    listed = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(listed))
    (tmp_path / "open_clip_config.json").write_bytes((tiny_folder / "open_clip_config.json").read_bytes())
    options = {"arch": f"local-dir:{tmp_path}"} if is_named else {"checkpoint": tmp_path}
    spec = spec_of(**options)
    found, expected = load_clip(spec), load_clip(spec_of(checkpoint=tiny_folder))
    assert all(torch.equal(found.image[name], expected.image[name]) for name in expected.image)
    assert found.text.keys() == expected.text.keys()
    before = spec.name
    changed = tmp_path / "model-1-of-2.safetensors"
    save_file({name: tensors[name] + 1 for name in shards[changed.name]}, changed)
    assert spec_of(**options).name != before
    changed.unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"The shard model-1-of-2\.safetensors is missing"):
        spec_of(**options)


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
    assert isinstance(spec.weights, HubFile)
    assert spec.weights == HubFile("timm/vit_base_patch32_clip_224.openai", spec.weights.names)
    assert (spec.source, spec.licence) == ("openai", "MIT")


def test_a_tag_brings_its_own_preprocessing() -> None:
    assert spec_of(arch="ViT-B-16-SigLIP", pretrained="webli").arch.preprocess_config["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", [name for name in arch_names() if "siglip" in name.lower()])
def test_a_file_of_a_siglip_is_read_as_its_published_weights_are(name: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"weights")
    (tag, *_) = open_clip.list_pretrained_tags_by_model(name)
    of_file, published = spec_of(arch=name, checkpoint=file).arch, spec_of(arch=name, pretrained=tag).arch
    assert of_file.config == published.config
    read = [PreprocessSpec.from_config(arch.preprocess_config) for arch in (of_file, published)]
    assert read[0] == read[1]
    assert (read[0].mode, read[0].mean, of_file.has_sigmoid) == ("squash", (0.5, 0.5, 0.5), True)
    assert of_file.text["hf_tokenizer_name"]


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


@pytest.mark.parametrize(
    ("arch", "marks", "said"),
    [
        pytest.param("ViT-B-32", (), "are named as OpenAI's", id="names alone"),
        pytest.param("ViT-B-32", ("input_resolution",), "are OpenAI's", id="with OpenAI's own marks"),
        pytest.param("ViT-B-32-quickgelu", ("input_resolution",), None, id="QuickGELU"),
        pytest.param(None, (), None, id="a folder states its activation"),
    ],
)
def test_a_file_of_openais_names_is_warned_of_where_gelu_is_computed(
    arch: str | None, marks: tuple[str, ...], said: str | None, tiny_folder: Path, tmp_path: Path, *, caplog: Any
) -> None:
    tensors = load_file(tiny_folder / "open_clip_model.safetensors") | {mark: torch.tensor(32) for mark in marks}
    save_file(tensors, tmp_path / f"{tmp_path.name}.safetensors")
    folder = {"checkpoint": tiny_folder} if arch is None else {"checkpoint": next(tmp_path.iterdir()), "arch": arch}
    with caplog.at_level(logging.WARNING):
        load_clip(spec_of(**folder))
        load_clip(spec_of(**folder))
    assert len(caplog.messages) == (said is not None)
    assert said is None or f"{said}, which were trained with QuickGELU" in caplog.text


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_folder_of_the_transformers_library_is_a_clip_of_its_own(activation: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": activation}
    text = {**tower, "intermediate_size": 96, "eos_token_id": 49407}
    vision = {**tower, "intermediate_size": 128, "image_size": 32, "patch_size": 8}
    network = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    ).eval()
    network.save_pretrained(tmp_path, max_shard_size="1MB")
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32, image_mean=[0.5] * 3).save_pretrained(
        tmp_path
    )
    assert (tmp_path / "model.safetensors.index.json").is_file()
    spec = spec_of(checkpoint=tmp_path)
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    ids = torch.tensor([[49406, 320, 1125, 49407, 0, 0]])
    mean, std = (torch.tensor(spec.arch.preprocess_config[key]) for key in ("mean", "std"))
    assert mean.tolist() == [0.5] * 3
    with torch.inference_mode():
        images = network.vision_model(((pixels / 255 - mean) / std).permute(0, 3, 1, 2)).pooler_output
        texts = network.text_model(ids).pooler_output
        expected = network.visual_projection(images), network.text_projection(texts)
        found = clip_image_graph(spec).build()(pixels), clip_text_graph(spec).build()(ids)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs / theirs.norm(dim=-1, keepdim=True), atol=1e-5, rtol=0)  # float32


def test_the_embedded_weights_are_read_as_float32_though_some_are_stored_shorter() -> None:
    tensors = load_clip(ClipSpec.of(ClipSection()))
    assert {tensor.dtype for part in (tensors.image, tensors.text) for tensor in part.values()} == {torch.float32}
