"""Checkpoints in every layout in which CLIP-FlanT5 is published, and those that cannot be used."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from plumbline_models.core.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    StateDictError,
    UnsafeCheckpointError,
)
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.states import TOKEN_TABLES
from plumbline_models.networks.flant5.weights import build_image_graph, build_score_graph

INSIDE = "vision_tower.vision_tower."


class Exploit:
    def __reduce__(self):
        return print, ("run",)


@pytest.fixture
def state(tiny):
    return load_file(tiny / "model.safetensors")


@pytest.fixture
def rewrite(copied):
    """Replaces the copied checkpoint's weights and returns the checkpoint."""

    def write(tensors, file="model.safetensors"):
        (copied / "model.safetensors").unlink(missing_ok=True)
        if file.endswith(".bin"):
            torch.save(tensors, copied / file)
        else:
            save_file(tensors, copied / file)
        return FlanT5Checkpoint(str(copied))

    return write


def _assert_same(found: FlanT5Checkpoint, expected: FlanT5Checkpoint) -> None:
    for build in (build_image_graph, lambda checkpoint: build_score_graph(checkpoint, 85)):
        ours, theirs = build(found).state_dict(), build(expected).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def _split(tensors, copied, suffix):
    """Write two shards and their index, and drop the single file."""
    names = sorted(tensors)
    halves = {f"part-{index}{suffix}": names[index::2] for index in (0, 1)}
    for file, held in halves.items():
        part = {name: tensors[name] for name in held}
        torch.save(part, copied / file) if suffix == ".bin" else save_file(part, copied / file)
    index = {"weight_map": {name: file for file, held in halves.items() for name in held}}
    stem = "pytorch_model.bin" if suffix == ".bin" else "model.safetensors"
    (copied / f"{stem}.index.json").write_text(json.dumps(index), encoding="utf-8")
    (copied / "model.safetensors").unlink()
    return FlanT5Checkpoint(str(copied))


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_with_an_index_are_read(suffix, state, copied, checkpoint):
    _assert_same(_split(state, copied, suffix), checkpoint)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip container", "older container"])
def test_a_pickle_of_tensors_is_read(is_zip, state, copied, checkpoint):
    (copied / "model.safetensors").unlink()
    torch.save(state, copied / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    _assert_same(FlanT5Checkpoint(str(copied)), checkpoint)


@pytest.mark.parametrize("alias", TOKEN_TABLES)
def test_the_token_table_is_found_under_each_of_its_names(alias, state, rewrite, checkpoint):
    state[alias] = state.pop("shared.weight")
    _assert_same(rewrite(state), checkpoint)


def test_the_vocabulary_is_cut_to_the_tokenizers_length(checkpoint, golden, state):
    graph = build_score_graph(checkpoint, 85)
    assert state["shared.weight"].shape[0] == golden["stored_vocab"]
    assert graph.tokens.shape[0] == graph.vocabulary.weight.shape[0] == golden["scored_vocab"]


def test_a_stray_position_buffer_is_passed_over(state, rewrite, checkpoint):
    state[f"{INSIDE}vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    _assert_same(rewrite(state), checkpoint)


@pytest.mark.parametrize("is_named", [True, False], ids=["by the section", "by the configuration"])
def test_the_tower_may_lie_in_a_folder_of_its_own(is_named, state, copied, tiny, checkpoint):
    tower = copied / "vision"
    tower.mkdir()
    outside = {name.removeprefix(INSIDE): state.pop(name) for name in list(state) if name.startswith(INSIDE)}
    save_file(outside, tower / "model.safetensors")
    (tower / "config.json").write_bytes((tiny / "vision_config.json").read_bytes())
    (copied / "vision_config.json").unlink()
    save_file(state, copied / "model.safetensors")
    _assert_same(FlanT5Checkpoint(str(copied), vision_tower=str(tower) if is_named else None), checkpoint)


def test_the_tower_of_the_published_checkpoints_is_known(copied, edit_config):
    (copied / "vision_config.json").unlink()
    edit_config(mm_vision_tower="openai/clip-vit-large-patch14-336")
    arch = FlanT5Checkpoint(str(copied)).tower_arch
    assert (arch.image_px, arch.num_patches, arch.width, arch.num_blocks) == (336, 576, 1024, 23)


def test_half_precision_weights_are_widened(state, rewrite):
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    graph = build_score_graph(rewrite(halved), 85)
    assert {parameter.dtype for parameter in graph.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shared.weight", "no token table"),
        ("lm_head.weight", r"lm_head\.weight"),
        ("decoder.block.1.layer.1.EncDecAttention.k.weight", r"no decoder\.block\.1"),
    ],
)
def test_a_missing_tensor_is_named(name, reason, state, rewrite):
    del state[name]
    with pytest.raises(StateDictError, match=reason):
        build_score_graph(rewrite(state), 85)


def test_a_tensor_of_another_shape_is_named(state, rewrite):
    state["mm_projector.0.weight"] = torch.zeros(3, 3)
    with pytest.raises(StateDictError, match=r"mm_projector\.0\.weight"):
        build_image_graph(rewrite(state))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("name", ["shared.weight", "decoder.block.0.layer.2.DenseReluDense.wo.weight"])
def test_a_quantised_tensor_is_named(name, file, dtype, state, rewrite):
    state |= {name: state[name].to(dtype), f"{name}_scale": torch.ones(1)}
    with pytest.raises(StateDictError, match=rf"The checkpoint's {name} is stored as {str(dtype)[6:]}"):
        build_score_graph(rewrite(state, file), 85)


def test_safetensors_under_the_ending_of_a_pickle_are_read(copied, checkpoint):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    _assert_same(FlanT5Checkpoint(str(copied)), checkpoint)


def test_a_vocabulary_shorter_than_the_tokenizers_is_refused(state, rewrite):
    state["lm_head.weight"] = state["lm_head.weight"][:170].clone()
    with pytest.raises(StateDictError, match="vocabulary"):
        build_score_graph(rewrite(state), 85)


def test_a_pickle_that_would_run_code_is_refused(state, rewrite, capsys):
    with pytest.raises(UnsafeCheckpointError):
        build_score_graph(rewrite({**state, "extra": Exploit()}, "pytorch_model.bin"), 85)
    assert capsys.readouterr().out == ""


def test_a_damaged_weight_file_is_refused(copied):
    (copied / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        build_score_graph(FlanT5Checkpoint(str(copied)), 85)


@pytest.mark.parametrize("escape", ["../model.safetensors", "gone.safetensors"])
def test_an_index_may_name_only_files_beside_it(escape, state, copied):
    (copied / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(state, escape)}), encoding="utf-8"
    )
    with pytest.raises(CheckpointNotFoundError, match="shard"):
        build_score_graph(FlanT5Checkpoint(str(copied)), 85)


@pytest.mark.parametrize(
    "changed",
    [
        {"feed_forward_proj": "relu"},
        {"mm_projector_type": "linear"},
        {"mm_vision_select_feature": "cls_patch"},
        {"mm_vision_select_layer": -9},
        {"d_model": "wide"},
    ],
    ids=str,
)
def test_an_architecture_that_is_another_is_refused(changed, copied, edit_config):
    edit_config(**changed)
    with pytest.raises(CheckpointError):
        _ = FlanT5Checkpoint(str(copied)).tower_arch


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint folder"):
        _ = FlanT5Checkpoint("./no/such/folder").config


def test_a_hub_name_without_a_hub_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    checkpoint = FlanT5Checkpoint("zhiqiulin/clip-flant5-xl")
    with pytest.raises(CheckpointNotFoundError, match="hub cannot be reached"):
        _ = checkpoint.config
    assert not checkpoint.origin.is_present
    assert (checkpoint.origin.source, checkpoint.origin.licence) == (checkpoint.name, "research use only")


def test_the_shown_source_holds_no_path(copied):
    checkpoint = FlanT5Checkpoint(str(copied))
    assert (checkpoint.origin.source, checkpoint.origin.is_present) == ("copied", True)
    assert checkpoint.label.startswith("copied-")
    assert "/" not in checkpoint.label
