"""The vocabulary of the embedded CLIP-FlanT5: a SentencePiece file trained on what is said of scenes.

    python -m plumbline_training.wordings --out FOLDER

Texts are folded to lower case, so that a caption means the same in any case. Question and ending are one piece each,
and so is each word of the world of scenes, which keeps the encoder's input short. Other words fall apart into letters,
and characters that were never seen are one and the same unknown piece.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from sentencepiece import SentencePieceTrainer

from plumbline_models.text.questions import DEFAULT_ANSWER, DEFAULT_QUESTION, RIVAL_ANSWER, SLOT
from plumbline_training.captions import sample_manner, word
from plumbline_training.descriptions import describe
from plumbline_training.sampling import sample_scene
from plumbline_training.vocabulary import WORLD

NUM_PIECES = 300
NUM_SENTENCES = 4000
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-"
SPACE = "\u2581"


def whole_pieces() -> list[str]:
    """What is never cut: both parts of the question, and each word of the world, after a space or a quote."""
    before, behind = (part.lower().replace(" ", SPACE) for part in DEFAULT_QUESTION.split(SLOT))
    texts = (*WORLD, DEFAULT_ANSWER, RIVAL_ANSWER)
    words = sorted({word for text in texts for word in text.lower().split()})
    bare = [word for word in words if len(word) > 1]  # single letters are pieces in any case
    return [SPACE + before, behind, *(SPACE + word for word in words), *bare]


def _sentences(rng: Generator) -> Iterator[str]:
    yield from (DEFAULT_ANSWER, RIVAL_ANSWER, " ".join(ALPHABET), ALPHABET)
    for _ in range(NUM_SENTENCES):
        yield DEFAULT_QUESTION.replace(SLOT, word(describe(sample_scene(rng), rng), sample_manner(rng)).text)


def train_pieces(seed: int) -> bytes:
    """The bytes of a `spiece.model` with T5's numbers for padding, end and unknown: 0, 1, 2."""
    file = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=_sentences(np.random.default_rng(seed)),
        model_writer=file,
        model_type="unigram",
        vocab_size=NUM_PIECES,
        hard_vocab_limit=False,
        character_coverage=1.0,
        required_chars=ALPHABET,
        normalization_rule_name="nmt_nfkc_cf",
        user_defined_symbols=whole_pieces(),
        split_digits=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return file.getvalue()


def write_pieces(folder: Path, seed: int) -> None:
    """Write `spiece.model` and the `tokenizer_config.json` that belongs to it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(train_pieces(seed))
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "legacy": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train the vocabulary and write its two files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write_pieces(options.out, options.seed)


if __name__ == "__main__":
    main()
