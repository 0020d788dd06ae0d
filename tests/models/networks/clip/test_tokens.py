"""Tokenizers of architectures whose text tower is not CLIP's."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.backends.fake import FakeBackend
from plumbline_models.core.errors import CheckpointNotFoundError, ConfigError
from plumbline_models.networks.clip.archs import Arch, find_arch
from plumbline_models.networks.clip.encoders import ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSpec
from plumbline_models.networks.clip.templated import TemplatedTextEncoder
from plumbline_models.networks.clip.tokenizer import ClipTokenizer
from plumbline_models.networks.clip.tokens import open_tokens
from plumbline_models.weights.sources import LocalFile

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")
WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "red": 5, "circle": 6}


@pytest.fixture
def arch(tmp_path: Path) -> Arch:
    """A folder with a tokenizer of seven words, as published ones lie beside their weights."""
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(tmp_path)
    text = {"context_length": 6, "hf_tokenizer_name": "org/words", "tokenizer_kwargs": {"clean": "whitespace"}}
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": text}
    return Arch("words", json.loads(json.dumps(config)), home=tmp_path)


def test_a_tokenizer_beside_the_weights_is_used(arch: Arch) -> None:
    ids = open_tokens(arch).encode("a  red circle")
    assert ids.dtype == np.int64
    assert ids.tolist() == [4, 5, 6, 0, 0, 0]


def test_an_encoder_reads_its_tokenizer_before_the_first_text(arch: Arch) -> None:
    assert arch.home is not None
    spec = ClipSpec("words", arch, LocalFile(arch.home / "none.safetensors"), source="words")
    encoder = TemplatedTextEncoder(ClipTextEncoder(spec, FakeBackend()), "a ")
    encoder.load_preprocessing()
    shutil.rmtree(arch.home)
    assert encoder.preprocess("red circle").tolist() == [4, 5, 6, 0, 0, 0]


def test_a_long_text_is_cut_to_the_context(arch: Arch) -> None:
    assert open_tokens(arch).encode("red " * 50).tolist() == [5] * 6


def test_clips_own_tokenizer_needs_no_file() -> None:
    assert open_tokens(find_arch("ViT-B-32")).encode("a cup").tolist() == [49406, 320, 1937, 49407]


def test_control_tokens_in_a_text_are_text(arch: Arch) -> None:
    ids = open_tokens(arch).encode("a [SEP] red").tolist()
    assert (ids.count(WORDS["[SEP]"]), ids.count(WORDS["[UNK]"])) == (0, 3)  # a bracket, three letters, a bracket


@pytest.mark.parametrize("asked", [{"clean": "whitespace"}, {"reduction_mask": "syntax"}])
def test_byte_pairs_of_texts_that_are_cleaned_or_shortened_otherwise_are_refused(asked: dict[str, str]) -> None:
    usual = find_arch("ViT-B-32")
    text = {**usual.text, "tokenizer_kwargs": asked}
    with pytest.raises(ConfigError, match=f"ViT-B-32 is asked for {next(iter(asked))}"):
        open_tokens(dataclasses.replace(usual, config={**usual.config, "text_cfg": text}))


def test_a_tokenizer_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"hf_tokenizer_name": missing}}
    with pytest.raises(CheckpointNotFoundError, match="The tokenizer nowhere of words is not to be had"):
        open_tokens(Arch("words", config)).encode("a")


@pytest.mark.parametrize(("num_words", "is_cut"), [(5, False), (6, False), (7, True), (50, True)])
def test_a_text_beside_the_context_says_so(arch: Arch, num_words: int, is_cut: bool) -> None:
    tokens = open_tokens(arch)
    assert tokens.cuts(" ".join(["red"] * num_words)) == is_cut
    assert tokens.encode("a circle").tolist() == [4, 6, 0, 0, 0, 0]  # counting leaves nothing behind


def test_in_the_mode_of_clips_three_tokens_stand_around_a_text(arch: Arch) -> None:
    arch.config["text_cfg"]["tokenizer_mode"] = "clips"
    tokens = open_tokens(arch)
    assert [tokens.cuts(" ".join(["red"] * num_words)) for num_words in (3, 4)] == [False, True]


@pytest.mark.parametrize(
    "text", ["red " * 75, "red " * 76, "a" * 75, "&nGt;" * 15, "&nGt;" * 40, "ß" * 75, "\U0001f600" * 30]
)
def test_clips_own_tokenizer_says_what_it_cuts(text: str) -> None:
    assert open_tokens(find_arch("ViT-B-32")).cuts(text) == ClipTokenizer().encode(text).truncated
