"""Text towers of the transformers library, as of RS-M-CLIP: open_clip's modules, a configuration on this machine."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from plumbline_models.core.errors import CheckpointNotFoundError, UnsafeCheckpointError
from plumbline_models.networks.clip.encoders import ClipTextEncoder
from plumbline_models.networks.clip.graph import clip_text_graph
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from tests.results import succeeded

SAME = 2e-6  # unit-norm embeddings, float32
NAME = "FacebookAI/xlm-roberta-tiny"
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "two", "red", "circle", "circles", "ein", "roter", "kreis"]
ROBERTA: dict[str, Any] = {
    "model_type": "xlm-roberta",
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
TEXT = {"hf_model_name": NAME, "hf_tokenizer_name": NAME, "hf_pooler_type": "mean_pooler", "context_length": 12}
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}


def write(file: Path, values: dict[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As `hf download` leaves them: the CLIP, its tokenizer, and below it the text model's configuration."""
    config = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": {**TEXT, "hf_proj_type": "mlp"}}
    write(tmp_path / "open_clip_config.json", {"model_cfg": config})
    write(tmp_path / "xlm-roberta-tiny" / "config.json", ROBERTA)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **marks})
    save_file(build(tmp_path).state_dict(), tmp_path / "open_clip_model.safetensors")
    return tmp_path


def build(folder: Path) -> Any:
    """open_clip's own module, with random weights."""
    torch.manual_seed(1)
    text = {**TEXT, "hf_model_name": str(folder / "xlm-roberta-tiny"), "hf_model_pretrained": False}
    return open_clip.CustomTextCLIP(
        24, open_clip.CLIPVisionCfg(**VISION), open_clip.CLIPTextCfg(**text, hf_proj_type="mlp")
    ).eval()


@pytest.mark.parametrize("backend", ["torch_fp32", "openvino_fp32"])
def test_texts_are_embedded_as_by_open_clip(backend: str, folder: Path, request: pytest.FixtureRequest) -> None:
    spec = ClipSpec.of(ClipSection(checkpoint=folder))
    encoder = ClipTextEncoder(spec, request.getfixturevalue(backend))
    encoder.load()
    texts = ["a red circle", "ein roter kreis", "two circles " * 20]
    call = open_clip.tokenizer.HFTokenizer(str(folder), context_length=12)
    with torch.inference_mode():
        made = build(folder).text(call(texts))
        expected = (made / made.norm(dim=1, keepdim=True)).numpy()
    found = np.stack(succeeded(encoder.encode([encoder.preprocess(text) for text in texts])))
    assert np.abs(found - expected).max() <= SAME
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    assert [encoder.cuts(text) for text in texts] == [False, False, True]


def test_the_text_models_configuration_is_part_of_what_is_compiled(folder: Path) -> None:
    spec = ClipSpec.of(ClipSection(checkpoint=folder))
    before = clip_text_graph(spec).fingerprint
    write(folder / "xlm-roberta-tiny" / "config.json", {**ROBERTA, "layer_norm_eps": 1e-3})
    assert clip_text_graph(spec).fingerprint != before


CODE = "raise SystemExit('the code of a checkpoint ran')"


def test_code_that_the_text_models_configuration_names_is_never_run(folder: Path) -> None:
    write(folder / "xlm-roberta-tiny" / "config.json", {**ROBERTA, "auto_map": {"AutoModel": "own.Own"}})
    (folder / "xlm-roberta-tiny" / "own.py").write_text(CODE, encoding="utf-8")
    with pytest.raises(UnsafeCheckpointError, match="names code of the checkpoint's own"):
        clip_text_graph(ClipSpec.of(ClipSection(checkpoint=folder))).build()


def test_code_that_the_tokenizer_names_is_never_run(folder: Path, torch_fp32: Any) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(folder / "tokenizer_config.json", {**config, "auto_map": {"AutoTokenizer": ["own.Own", None]}})
    (folder / "own.py").write_text(CODE, encoding="utf-8")
    with pytest.raises(UnsafeCheckpointError, match=r"tokenizer_config\.json"):
        ClipTextEncoder(ClipSpec.of(ClipSection(checkpoint=folder)), torch_fp32).preprocess("a red circle")


def test_a_configuration_cannot_allow_code_by_the_tokenizers_arguments(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, torch_fp32: Any
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    own = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    write(elsewhere / "tokenizer_config.json", {**tokenizer, **own})
    (folder / "tokenizer.json").rename(elsewhere / "tokenizer.json")
    (folder / "tokenizer_config.json").unlink()
    (elsewhere / "own.py").write_text(CODE, encoding="utf-8")
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    asked = {"hf_tokenizer_name": str(elsewhere), "tokenizer_kwargs": {"trust_remote_code": True}}
    config["model_cfg"]["text_cfg"] |= asked
    write(folder / "open_clip_config.json", config)
    with pytest.raises(CheckpointNotFoundError, match="is not to be had"):
        ClipTextEncoder(ClipSpec.of(ClipSection(checkpoint=folder)), torch_fp32).preprocess("a red circle")


def test_a_configuration_outside_of_the_folder_is_not_read(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    write(outside / "config.json", ROBERTA)
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    config["model_cfg"]["text_cfg"]["hf_model_name"] = f"../{outside.name}"
    write(folder / "open_clip_config.json", config)
    with pytest.raises(CheckpointNotFoundError):
        clip_text_graph(ClipSpec.of(ClipSection(checkpoint=folder)))
