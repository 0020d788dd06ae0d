"""SigLIP's towers from the transformers library's layout, against that library's own modules on random weights."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plumbline_models.core.errors import CheckpointError
from plumbline_models.core.protocols import BuildContext, Embedded
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.clip.tokens import is_cut, open_tokens
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.clipscore import ClipScore
from tests.results import succeeded

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")
SENTENCES = ["a red circle on a blue background", "two dogs playing chess", "a lighthouse on a cliff at sunset"] * 4
TEXTS = ["a red circle", "Two, Dogs!", "", "a lighthouse on a blue background " * 4]
HOSTILE = [
    "a_b at \u2019night\u2019 &amp; \u201cday\u201d",
    "two  dogs\n",
    "\uff26\uff55ll \u0391\u03a3 \ufb01ne",
    "a </s> dog <pad> <eos>",
]
"""Underscores, curly quotes and entities, white space, wide letters and ligatures, control tokens."""
SAME = 3e-6  # unit-norm embeddings, float32
BLOCK = {"hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module", params=[32000, 256000], ids=["siglip", "siglip2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    torch.manual_seed(2)
    config = transformers.SiglipConfig(
        text_config={**BLOCK, "vocab_size": request.param, "max_position_embeddings": 16, "projection_size": 48},
        vision_config={**BLOCK, "image_size": 40, "patch_size": 12},
    )
    made = transformers.SiglipModel(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("siglip")
    made.save_pretrained(folder)
    return folder, made.requires_grad_(requires_grad=False)


def unit(made: Any) -> np.ndarray:
    vectors = made.pooler_output if hasattr(made, "pooler_output") else made
    return (vectors / vectors.norm(dim=-1, keepdim=True)).numpy()


@pytest.mark.parametrize("backend", ["torch_fp32", "openvino_fp32"])
def test_images_are_embedded_as_by_transformers(
    model: tuple[Path, Any], backend: str, request: pytest.FixtureRequest
) -> None:
    folder, reference = model
    spec = ClipSpec.of(ClipSection(checkpoint=folder))
    encoder = ClipImageEncoder(spec, request.getfixturevalue(backend))
    encoder.load()
    pixels = np.random.default_rng(2).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    normal = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        expected = unit(reference.get_image_features(normal))
    found = np.stack(succeeded(encoder.encode(list(pixels))))
    assert np.abs(found - expected).max() <= SAME
    assert encoder.info().notes["pixels"] == "40x40, squash, bicubic"


@pytest.mark.parametrize("backend", ["torch_fp32", "openvino_fp32"])
def test_texts_are_embedded_as_by_transformers(
    model: tuple[Path, Any], backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reference = model
    spec = ClipSpec.of(ClipSection(checkpoint=folder))
    encoder = ClipTextEncoder(spec, request.getfixturevalue(backend))
    ids = np.random.default_rng(3).integers(0, 32000, (3, 16))
    monkeypatch.setattr(encoder, "_usual_input", lambda: ids[0])  # the folder has no tokenizer
    encoder.load()
    with torch.inference_mode():
        expected = unit(reference.get_text_features(torch.from_numpy(ids)))
    assert np.abs(np.stack(succeeded(encoder.encode(list(ids)))) - expected).max() <= SAME
    notes = encoder.info().notes
    assert float(notes["exp_logit_scale"]) == pytest.approx(float(reference.logit_scale.exp()), rel=1e-4)
    assert float(notes["logit_bias"]) == pytest.approx(float(reference.logit_bias), rel=1e-4)


@pytest.fixture(scope="module")
def with_tokenizer(model: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder with a tokenizer of a few words, in the published layout; and that tokenizer in the library itself."""
    folder = tmp_path_factory.mktemp("with-tokenizer")
    shutil.copytree(model[0], folder, dirs_exist_ok=True)
    stored = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=stored, vocab_size=60, hard_vocab_limit=False, minloglevel=2,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(stored.getvalue())
    tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"))
    tokenizer.save_pretrained(folder)
    return folder, tokenizer


@pytest.mark.parametrize("backend", ["torch_fp32", "openvino_fp32"])
def test_texts_are_read_by_the_tokenizer_beside_the_weights(
    model: tuple[Path, Any], with_tokenizer: tuple[Path, Any], backend: str, request: pytest.FixtureRequest
) -> None:
    folder, tokenizer = with_tokenizer
    encoder = ClipTextEncoder(ClipSpec.of(ClipSection(checkpoint=folder)), request.getfixturevalue(backend))
    encoder.load()
    expected = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    found = [encoder.preprocess(text) for text in TEXTS]
    assert np.array_equal(np.stack(found), expected.numpy())
    with torch.inference_mode():
        embedded = unit(model[1].get_text_features(expected))
    assert np.abs(np.stack(succeeded(encoder.encode(found))) - embedded).max() <= SAME
    assert [is_cut(encoder, text) for text in TEXTS] == [False, False, False, True]
    assert encoder.info().context_length == 16


def ids_of(folder: Path, text: str) -> list[int]:
    return open_tokens(ClipSpec.of(ClipSection(checkpoint=folder)).arch).encode(text).tolist()


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_texts_are_not_repaired_and_never_become_control_tokens(with_tokenizer: tuple[Path, Any], text: str) -> None:
    folder, tokenizer = with_tokenizer
    kept = {"padding": "max_length", "truncation": True, "max_length": 16, "split_special_tokens": True}
    assert ids_of(folder, text) == tokenizer(text, **kept)["input_ids"]


def test_siglip_2_reads_punctuation_and_lower_case(tmp_path: Path, model: tuple[Path, Any]) -> None:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"abcdefghijklmnopqrstuvwxyzABTWXYZ▁.,!'<>"]
    tokenizer = transformers.GemmaTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])
    shutil.copytree(model[0], tmp_path, dirs_exist_ok=True)
    tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    settings["text_config"]["vocab_size"] = 256000
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    kept = {"padding": "max_length", "truncation": True, "max_length": 16, "split_special_tokens": True}
    for text, read in {"Two cats, a BAT!": "two cats, a bat!", "it's <eos>": "it's <eos>"}.items():
        assert ids_of(tmp_path, text) == tokenizer(read, **kept)["input_ids"]


def test_clipscore_says_what_a_siglip_did_not_read(with_tokenizer: tuple[Path, Any], torch_fp32: Any) -> None:
    scorer = ClipScore.build({"checkpoint": str(with_tokenizer[0])}, BuildContext(torch_fp32, EncoderRegistry()))
    vector = np.eye(1, 48, dtype=np.float32)[0]
    batch = Embedded(images=[vector] * len(TEXTS), captions=[vector] * len(TEXTS), texts=TEXTS)
    said = [score.details.get("truncated", False) for score in succeeded(scorer.score(batch))]
    assert said == [False, False, False, True]


def test_the_vocabulary_tells_whose_tokenizer_stands_in(model: tuple[Path, Any]) -> None:
    folder, reference = model
    text = ClipSpec.of(ClipSection(checkpoint=folder)).arch.text
    assert ("siglip2" in text["hf_tokenizer_name"]) == (reference.config.text_config.vocab_size == 256000)


def test_a_siglip_of_variable_resolution_is_refused(model: tuple[Path, Any], tmp_path: Path) -> None:
    config = json.loads((model[0] / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "siglip2"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="variable resolution"):
        ClipSpec.of(ClipSection(checkpoint=tmp_path))


def test_other_layers_are_refused(model: tuple[Path, Any], tmp_path: Path) -> None:
    config = json.loads((model[0] / "config.json").read_text(encoding="utf-8"))
    config["vision_config"]["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match="no SigLIP has"):
        ClipSpec.of(ClipSection(checkpoint=tmp_path))
