"""Tokenizers of architectures whose text tower is not CLIP's."""

import json
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.checkpoints.archs import Arch, find_arch
from plumbline_models.core.errors import CheckpointNotFoundError
from plumbline_models.encoders.tokens import open_tokens

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


def test_a_long_text_is_cut_to_the_context(arch: Arch) -> None:
    assert open_tokens(arch).encode("red " * 50).tolist() == [5] * 6


def test_clips_own_tokenizer_needs_no_file() -> None:
    assert open_tokens(find_arch("ViT-B-32")).encode("a cup").tolist() == [49406, 320, 1937, 49407]


def test_a_tokenizer_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"hf_tokenizer_name": missing}}
    with pytest.raises(CheckpointNotFoundError, match="The tokenizer nowhere of words is not to be had"):
        open_tokens(Arch("words", config)).encode("a")
