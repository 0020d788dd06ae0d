"""Adapters merged into a CLIP: LoRA against peft's own forward, singular values against their decomposition."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from loadtests import goldens
from loadtests.goldens.preference.clips import build_pickscore
from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError, ConfigError, StateDictError
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.clip.graph import clip_image_graph, clip_text_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.weights import load_clip

LORA = goldens.GOLDEN / "lora"
"""Of peft 0.21.2: its adapter on the tiny PickScore, and the encodings that its own modules gave with transformers."""
DORA = goldens.GOLDEN / "dora"
"""The same of peft 0.21.0, with magnitudes, one of them of the patches' convolution."""
SAME = 3e-6  # unit-norm embeddings, float32: merged here, added in each layer there


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_pickscore(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LORA, tmp_path / "lora"))


def spec_of(folder: Path, adapter: Path | None = None) -> ClipSpec:
    return ClipSpec.of(ClipSection(checkpoint=folder, adapter=None if adapter is None else str(adapter)))


def encodings(spec: ClipSpec) -> dict[str, np.ndarray]:
    size = spec.arch.image_size_px[0]
    pixels = np.random.default_rng(5).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    ids = np.load(LORA / "expected.npz")["token_ids"]
    with torch.inference_mode():
        images = clip_image_graph(spec).build()(torch.from_numpy(pixels))
        texts = clip_text_graph(spec).build()(torch.from_numpy(ids))
    return {"images": images.numpy(), "texts": texts.numpy()}


def test_lora_gives_what_pefts_own_modules_give(clip: Path) -> None:
    expected, found, base = np.load(LORA / "expected.npz"), encodings(spec_of(clip, LORA)), encodings(spec_of(clip))
    for kind in ("images", "texts"):
        assert np.abs(found[kind] - expected[kind]).max() <= SAME
        assert np.abs(base[kind] - expected[kind]).max() > 0.05


def test_dora_gives_what_pefts_own_modules_give(clip: Path) -> None:
    expected, found = np.load(DORA / "expected.npz"), encodings(spec_of(clip, DORA))
    for kind in ("images", "texts"):
        assert np.abs(found[kind] - expected[kind]).max() <= SAME
        assert np.abs(encodings(spec_of(clip, LORA))[kind] - expected[kind]).max() > 0.05


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        pytest.param(None, "is DoRA and has no", id="none"),
        pytest.param(slice(-1), "magnitudes, and the checkpoint's", id="too few"),
    ],
)
def test_a_dora_without_its_magnitudes_is_refused(kept: slice | None, said: str, clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DORA, tmp_path / "dora"))
    adapter = load_file(folder / "adapter_model.safetensors")
    name = next(each for each in adapter if "magnitude" in each)
    magnitude = adapter.pop(name)
    if kept is not None:
        adapter[name] = magnitude[kept].contiguous()
    save_file(adapter, folder / "adapter_model.safetensors")
    with pytest.raises(StateDictError, match=said):
        load_clip(spec_of(clip, folder))


def test_an_adapter_of_the_hub_is_named_by_its_repository(clip: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointNotFoundError, match="some/lora is not in the local hub cache"):
        ClipSpec.of(ClipSection(checkpoint=clip, adapter="some/lora"))
    repository, revision = tmp_path / "models--some--lora", "0" * 40
    shutil.copytree(LORA, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision, encoding="utf-8")
    spec, here = ClipSpec.of(ClipSection(checkpoint=clip, adapter="some/lora")), spec_of(clip, LORA)
    assert spec.source == f"{spec_of(clip).source} + some/lora"
    assert (spec.name, spec.digest) == (here.name, here.digest)
    assert "see https://huggingface.co/some/lora" in spec.licence


def test_a_changed_clip_has_a_name_digest_and_source_of_its_own(clip: Path, lora: Path) -> None:
    base, changed = spec_of(clip), spec_of(clip, lora)
    assert changed.source == f"{base.source} + lora"
    assert changed.name != base.name
    assert changed.digest != base.digest
    assert clip_image_graph(changed).fingerprint != clip_image_graph(base).fingerprint
    config = json.loads((lora / "adapter_config.json").read_text(encoding="utf-8"))
    (lora / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 7}), encoding="utf-8")
    again = spec_of(clip, lora)
    assert again.name != changed.name  # the scale is part of the weights
    changed.check("here")


def test_the_root_of_the_rank_and_whole_layers_are_read(clip: Path, lora: Path) -> None:
    config = json.loads((lora / "adapter_config.json").read_text(encoding="utf-8"))
    settings = {**config, "use_rslora": True, "alpha_pattern": {}}
    (lora / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    adapter, base = load_file(lora / "adapter_model.safetensors"), load_file(clip / "model.safetensors")
    whole = {"base_model.model.text_projection.modules_to_save.default.weight": base["text_projection.weight"] * 2}
    save_file({**adapter, **whole}, lora / "adapter_model.safetensors")
    found = load_clip(spec_of(clip, lora))
    layer = "base_model.model.visual_projection.lora_"
    change = adapter[f"{layer}B.weight"] @ adapter[f"{layer}A.weight"] * (6 / 4**0.5)
    torch.testing.assert_close(found.image["proj"].T, base["visual_projection.weight"].float() + change)
    torch.testing.assert_close(found.text["text_projection"].T, base["text_projection.weight"].float() * 2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"use_qalora": True}, "use_qalora: True, which is not merged", id="QA-LoRA"),
        pytest.param({"peft_type": "IA3"}, "peft_type: IA3", id="another kind"),
        pytest.param({"bias": "all"}, "bias: all", id="biases"),
        pytest.param({"lora_alpha": None}, "not usable", id="no scale"),
    ],
)
def test_adapters_of_another_kind_are_refused(changed: dict[str, Any], said: str, clip: Path, lora: Path) -> None:
    config = json.loads((lora / "adapter_config.json").read_text(encoding="utf-8"))
    (lora / "adapter_config.json").write_text(json.dumps({**config, **changed}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=said):
        load_clip(spec_of(clip, lora))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("base_model.model.head.lora_A.weight", (4, 8), r"has .*lora_A.weight and not .*lora_B"),
        ("base_model.model.visual_projection.lora_magnitude_vector", (8,), "not merged here"),
    ],
)
def test_layers_that_do_not_fit_are_refused(
    name: str, shape: tuple[int, ...], said: str, clip: Path, lora: Path
) -> None:
    adapter = load_file(lora / "adapter_model.safetensors")
    save_file({**adapter, name: torch.zeros(shape)}, lora / "adapter_model.safetensors")
    with pytest.raises(StateDictError, match=said):
        load_clip(spec_of(clip, lora))


def test_singular_values_change_the_third_of_a_joined_matrix(tiny_folder: Path, tmp_path: Path) -> None:
    """open_clip joins queries, keys and values; CLIP-SVD trains each by itself."""
    base = load_clip(spec_of(tiny_folder))
    layer, name = "transformer.resblocks.0.attn", "transformer.resblocks.0.attn.in_proj_weight"
    joined = base.text[name]
    third = len(joined) // 3
    left, values, right = torch.linalg.svd(joined[third : 2 * third], full_matrices=False)
    projection = torch.linalg.svdvals(base.image["proj"])
    new = values * torch.linspace(1.2, 0.8, len(values))
    own = torch.linalg.svdvals(base.text[f"{layer}.out_proj.weight"])
    stored = {f"{layer}.k_proj.S": new, "visual.proj.S": projection * 2, f"{layer}.proj.vector_S": own[None] * 2}
    save_file(stored, tmp_path / "values.safetensors")
    found = load_clip(spec_of(tiny_folder, tmp_path / "values.safetensors"))
    output = f"{layer}.out_proj.weight"  # which CLIP-SVD calls proj, its values of shape [1, rank]
    torch.testing.assert_close(found.text[output], base.text[output] * 2, atol=1e-5, rtol=1e-5)
    expected = torch.cat([joined[:third], left @ torch.diag(new) @ right, joined[2 * third :]])
    torch.testing.assert_close(found.text[name], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.image["proj"], base.image["proj"] * 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"transformer.resblocks.9.attn.k_proj.S": torch.ones(32)}, "which the checkpoint has not"),
        ({"text_projection.S": torch.ones(3)}, "has 3 values"),
        ({"text_projection.scale": torch.ones(3)}, "neither LoRA nor singular values"),
        ({"text_projection.S": torch.ones(2, 3)}, "neither LoRA nor singular values"),
    ],
)
def test_singular_values_that_do_not_fit_are_refused(
    tensors: dict[str, torch.Tensor], said: str, tiny_folder: Path, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "values.safetensors")
    with pytest.raises(StateDictError, match=said):
        load_clip(spec_of(tiny_folder, tmp_path / "values.safetensors"))


def test_a_missing_adapter_and_two_changes_at_once_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"no adapter_model\.safetensors"):
        spec_of(tiny_folder, tmp_path)
    with pytest.raises(CheckpointNotFoundError, match=r"no values\.safetensors"):
        spec_of(tiny_folder, tmp_path / "values.safetensors")
    both = {"checkpoint": str(tiny_folder), "adapter": str(tmp_path), "image_checkpoint": str(tmp_path)}
    with pytest.raises(ConfigError, match="not both: an adapter is merged"):
        parse_section(ClipSection, both, scorer="clipscore")
