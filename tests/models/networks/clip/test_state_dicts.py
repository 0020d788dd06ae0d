from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from plumbline_models.core.errors import StateDictError
from plumbline_models.networks.clip.arch import TextArch
from plumbline_models.networks.clip.graph import clip_image_graph, clip_text_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.state_dicts import fill, sort_tensors
from plumbline_models.networks.clip.text_tower import TextTower
from plumbline_models.networks.clip.weights import load_clip
from plumbline_models.weights.loading import read_tensors


@pytest.fixture
def tensors(tiny_folder: Path) -> dict[str, Tensor]:
    return read_tensors(tiny_folder / "open_clip_model.safetensors")


@pytest.fixture
def tower(tiny_spec: ClipSpec) -> TextTower:
    with torch.device("meta"):
        return TextTower(TextArch.of(tiny_spec.arch))


def test_openais_whole_numbers_beside_the_weights_are_dropped(tensors: dict[str, Tensor]) -> None:
    extra = {name: torch.tensor(224) for name in ("input_resolution", "context_length", "vocab_size")}
    assert sort_tensors({**tensors, **extra}).text.keys() == sort_tensors(tensors).text.keys()


def test_a_text_tower_of_its_own_has_the_same_names(tensors: dict[str, Tensor]) -> None:
    bare = sort_tensors(tensors)
    is_text = {name for name in tensors if not name.startswith(("visual.", "logit"))}
    custom = sort_tensors({f"text.{name}" if name in is_text else name: tensors[name] for name in tensors})
    assert custom.text.keys() == bare.text.keys()
    assert custom.image.keys() == bare.image.keys()
    assert custom.scalars.keys() == {"logit_scale"}


def test_cocas_decoder_is_left_out(tensors: dict[str, Tensor]) -> None:
    found = sort_tensors({**tensors, "text_decoder.ln_final.weight": torch.ones(1)})
    assert not any("decoder" in name for name in (*found.text, *found.image))


def test_tensors_of_something_else_are_named(tensors: dict[str, Tensor]) -> None:
    odd = {f"head.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(StateDictError, match=r"no CLIP has: head\.0, head\.1, head\.2 and 2 more"):
        sort_tensors({**tensors, **odd})


@pytest.mark.parametrize(("kept", "missing"), [("visual.", "text"), ("transformer.", "image")])
def test_half_a_clip_is_refused(kept: str, missing: str, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(StateDictError, match=f"has no {missing} tower"):
        sort_tensors({name: value for name, value in tensors.items() if name.startswith(kept)})


def test_a_missing_an_extra_and_a_misshapen_tensor_are_all_named(tensors: dict[str, Tensor], tower: TextTower) -> None:
    text = dict(sort_tensors(tensors).text)
    del text["ln_final.bias"]
    text["ln_middle.bias"] = torch.zeros(1)
    text["positional_embedding"] = torch.zeros(76, 32)
    with pytest.raises(StateDictError) as raised:
        fill(tower, text, name="text")
    assert raised.value.detail == (
        "The checkpoint does not fit the text tower of the architecture: it lacks ln_final.bias; "
        "it has besides ln_middle.bias; of another shape are positional_embedding ([76, 32] for [77, 32])."
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])  # the second: not widened beside its scale
def test_a_quantised_tensor_is_named(dtype: torch.dtype, tensors: dict[str, Tensor], tower: TextTower) -> None:
    name = "transformer.resblocks.0.mlp.c_fc.weight"
    text = {**sort_tensors(tensors).text, name: tensors[name].to(dtype)}
    with pytest.raises(StateDictError, match=f"of another type are {name} \\({str(dtype)[6:]} for float32\\)"):
        fill(tower, text, name="text")


def test_a_filled_tower_needs_no_gradients_and_is_in_eval_mode(tensors: dict[str, Tensor], tower: TextTower) -> None:
    fill(tower, sort_tensors(tensors).text, name="text")
    assert not tower.training
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in tower.parameters())


def to_hugging_face(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The way back, written out here for lack of a published checkpoint."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 77,
            "vocab_size": 49408,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=24,
    )
    names = transformers.CLIPModel(config).state_dict()
    found = {}
    for name, like in names.items():
        found[name] = like if name.endswith("position_ids") else _take(name, tensors)
        assert found[name].shape == like.shape, name
    return found


def _take(name: str, tensors: dict[str, Tensor]) -> Tensor:
    if name.endswith("_projection.weight"):
        return tensors["visual.proj" if name.startswith("visual") else "text_projection"].T.contiguous()
    path = name.replace("vision_model.embeddings.", "visual.").replace("text_model.embeddings.", "")
    path = path.replace("vision_model.", "visual.").replace("text_model.", "").replace("encoder.layers", "T.R")
    path = path.replace("T.R", "transformer.resblocks")
    path = path.replace("patch_embedding", "conv1").replace("position_embedding.weight", "positional_embedding")
    path = path.replace("pre_layrnorm", "ln_pre").replace("post_layernorm", "ln_post")
    path = path.replace("final_layer_norm", "ln_final").replace("layer_norm1", "ln_1").replace("layer_norm2", "ln_2")
    path = path.replace("fc1", "c_fc").replace("fc2", "c_proj").replace("self_attn.", "attn.")
    for index, part in enumerate(("q", "k", "v")):
        if f"attn.{part}_proj." in path:
            return tensors[path.replace(f"{part}_proj.", "in_proj_")].chunk(3)[index].contiguous()
    return tensors[path]


@pytest.fixture(scope="module")
def renamed(tiny_folder: Path) -> dict[str, Tensor]:
    return to_hugging_face(read_tensors(tiny_folder / "open_clip_model.safetensors"))


@pytest.fixture
def hugging_face(renamed: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file(renamed, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_hugging_face_names_give_the_same_tensors(hugging_face: Path, tensors: dict[str, Tensor]) -> None:
    found, expected = sort_tensors(read_tensors(hugging_face)), sort_tensors(tensors)
    assert found.image.keys() == expected.image.keys()
    assert found.text.keys() == expected.text.keys()
    assert all(torch.equal(found.image[name], expected.image[name]) for name in expected.image)
    assert all(torch.equal(found.text[name], expected.text[name]) for name in expected.text)


def test_a_key_without_its_query_is_refused(hugging_face: Path) -> None:
    tensors = read_tensors(hugging_face)
    del tensors["text_model.encoder.layers.1.self_attn.v_proj.bias"]
    with pytest.raises(StateDictError, match=r"has .*q_proj\.bias but not .*v_proj\.bias"):
        sort_tensors(tensors)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_an_activation_that_the_architecture_does_not_compute_is_refused(
    activation: str, hugging_face: Path, tiny_folder: Path, tiny_spec: ClipSpec
) -> None:
    hugging_face.with_name("config.json").write_text(
        f'{{"text_config": {{"hidden_act": "{activation}"}}, "vision_config": {{"hidden_act": "{activation}"}}}}'
    )
    (hugging_face.parent / "open_clip_config.json").write_bytes((tiny_folder / "open_clip_config.json").read_bytes())
    spec = ClipSpec.of(ClipSection(checkpoint=hugging_face.parent))
    assert spec.arch.has_quick_gelu
    if activation == "quick_gelu":
        assert load_clip(spec).text.keys() == load_clip(tiny_spec).text.keys()
        return
    with pytest.raises(StateDictError, match=r"was trained with gelu, which .* without -quickgelu in its name"):
        load_clip(spec)


def test_weights_of_another_architecture_are_refused_when_the_graph_is_built(tiny_folder: Path) -> None:
    spec = ClipSpec.of(ClipSection(arch="ViT-B-32", checkpoint=tiny_folder))
    with pytest.raises(StateDictError, match="does not fit the image tower"):
        clip_image_graph(spec).build()
    with pytest.raises(StateDictError, match="does not fit the text tower"):
        clip_text_graph(spec).build()
