# ruff: noqa: SLF001 - cleaning, pattern and vocabulary are ours on either side
"""CLIP's tokenizer beside the library `tokenizers`: `python -m loadtests.engine.tokenizing`.

20,000 texts of six kinds, cleaned by ours on either side, one thread. Two ways to use the library are compared with
ours by ids, spans and truncation, and by CPU time: `whole` splits and merges by it, `merging` leaves the splitting and
the cache of words to ours. Golden captions of tests/golden are among the texts.
"""

import argparse
import gzip
import html.entities
import json
import random
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import regex
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from loadtests.scorers.interleaved import add_out, interleave, ratios, report
from plumbline_models.networks.clip import byte_pairs, tokenizer
from plumbline_models.networks.clip.byte_pairs import END_OF_TEXT, FIRST_MERGE, START_OF_TEXT
from plumbline_models.networks.clip.tokenizer import ClipTokenizer, Tokenised
from plumbline_training.captions import sample_manner, word
from plumbline_training.descriptions import describe
from plumbline_training.sampling import sample_scene

Encode: TypeAlias = Callable[[str], Tokenised]

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "fclipscore" / "text_merge.json"
ROOM = 75
AWKWARD = (
    *("a photo of", "It's", "they'LL", "'\u017f", "\u201c", "\ufb01", "?!", "1,000", "...", "\n", "<i>", "&amp;amp;"),
    *("&#x1c;", "&EACUTE;", "\x00", "\x85", "\u3000", "\ufeff", "\u00c3\u00b6", "\u0130", "\u1e9e", "e\u0301"),
    *("\uff21", "\u65e5\u672c", "\u0939\u093f", "\u00bd", "<start_of_text>", "<end_of_text>"),
)
ALPHABETS = ("ab", "eino", "abcdefghijklmnopqrstuvwxyz", "\u7684\u4e00\u662f\u4e0d", "\u0430\u0435\u0438\u043d")


def draw_texts(num_texts: int, seed: int) -> dict[str, list[str]]:
    """Texts by their kind: captions of the drawn world, and what callers may send besides."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)  # noqa: S311 - no secret  # nosec B311
    entities = sorted(html.entities.html5)
    emoji = [chr(code) for code in range(0x1F300, 0x1FA00)]
    captions = list(_captions(rng, num_texts // 4))
    words = " ".join(captions).split()
    golden = [case["caption"] for case in json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]]
    kinds: dict[str, Callable[[], str]] = {
        "sentences": lambda: " ".join(draw.choices(words, k=draw.randrange(1, 140))),
        "awkward": lambda: "".join(draw.choices((*AWKWARD, " "), k=draw.randrange(1, 20))),
        "unicode": lambda: "".join(_character(draw) for _ in range(draw.randrange(1, 40))),
        "emoji": lambda: "".join(draw.choice(emoji) + draw.choice(("", "\u200d", " ")) for _ in range(12)),
        "long words": lambda: "".join(draw.choices(draw.choice(ALPHABETS), k=draw.randrange(20, 900))),
        "entities": lambda: " ".join("&" + draw.choice(entities) for _ in range(draw.randrange(1, 12))),
    }
    num_each = (num_texts - len(captions) - len(golden)) // len(kinds)
    return {"captions": captions, "golden": golden} | {
        kind: [make() for _ in range(num_each)] for kind, make in kinds.items()
    }


def open_whole() -> Encode:
    """Ids and spans of the library, traced back by our own cleaning."""
    opened = Tokenizer(_model())
    pattern = Regex("(?i)" + tokenizer._WORD)
    opened.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )

    def encode(text: str) -> Tokenised:
        cleaned = tokenizer._clean(text)
        encoded = opened.encode(cleaned.text, add_special_tokens=False)
        ids = np.array([START_OF_TEXT, *encoded.ids[:ROOM], END_OF_TEXT], dtype=np.int64)
        spans = tuple(cleaned.trace(encoded.offsets[:ROOM]))
        return Tokenised(ids, spans, truncated=len(encoded.ids) > ROOM)

    return encode


def compare_merging(texts: list[str]) -> dict[str, Any]:
    """Words that the library merges otherwise, and CPU time of merging each distinct word once."""
    model, pairs = _model(), byte_pairs.load_byte_pairs()
    symbols = {chr(byte): symbol for byte, symbol in byte_pairs._byte_symbols().items()}
    table = str.maketrans(symbols)

    def merge(word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        tokens = model.tokenize(word.encode().decode("latin-1").translate(table))
        ends = list(accumulate(len(token.value) for token in tokens))
        return tuple(token.id for token in tokens), (0, *ends[:-1])

    pattern = regex.compile(tokenizer._WORD, regex.IGNORECASE)
    words = sorted({found[0] for text in texts for found in pattern.finditer(tokenizer._clean(text).text)})
    measured = interleave(
        {
            "ours": lambda _: [pairs.encode_word(word) for word in words],
            "tokenizers": lambda _: [merge(word) for word in words],
        },
        num_rounds=3,
    )
    num_other = sum(pairs.encode_word(word) != merge(word) for word in words)
    return {"num_words": len(words), "num_other": num_other, "ratio": ratios(measured, "ours")}


def compare_whole(texts: list[str], whole: Encode) -> dict[str, Any]:
    """Texts that the library encodes otherwise, and CPU time; ours with its words in the cache, and without."""
    ours = ClipTokenizer().encode

    def without_cache(_: int) -> None:
        tokenizer._encode_cached.cache_clear()
        for text in texts:
            ours(text)

    measured = interleave(
        {
            "ours, words new": without_cache,
            "ours": lambda _: [ours(text) for text in texts],
            "tokenizers": lambda _: [whole(text) for text in texts],
        },
        num_rounds=3,
    )
    num_other = sum(_parts(ours(text)) != _parts(whole(text)) for text in texts)
    micros = {name: round(each["median_cpu_s"] / len(texts) * 1e6, 1) for name, each in measured.items()}
    return {"num_texts": len(texts), "num_other": num_other, "cpu_us_per_text": micros}


def _parts(tokenised: Tokenised) -> tuple[list[int], tuple[tuple[int, int], ...], bool]:
    return tokenised.ids.tolist(), tokenised.spans, tokenised.truncated


def _model() -> Any:
    file = byte_pairs._find_vocabulary()
    lines = gzip.decompress(file.read_bytes()).decode().split("\n")[1 : byte_pairs.NUM_MERGES + 1]
    ids = {symbol: index for index, symbol in enumerate(byte_pairs._byte_symbols().values())}
    ids |= {f"{symbol}</w>": index + len(ids) for symbol, index in ids.items()}
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    ids |= {left + right: index for index, (left, right) in enumerate(merges, start=FIRST_MERGE)}
    return models.BPE(vocab=ids, merges=merges, end_of_word_suffix="</w>")


def _captions(rng: np.random.Generator, num_texts: int) -> Iterator[str]:
    for _ in range(num_texts):
        yield word(describe(sample_scene(rng), rng), sample_manner(rng)).text


def _character(draw: random.Random) -> str:
    low, high = draw.choice(((0x20, 0x7F), (0x20, 0x3000), (0xE000, 0x10000), (0x3000, 0xD800), (0x10000, 0x110000)))
    return chr(draw.randrange(low, high))


def main() -> None:
    """Measure, print, and write to a file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=20_000)
    add_out(parser)
    options = parser.parse_args()
    texts, whole = draw_texts(options.texts, seed=7), open_whole()
    cases = {kind: compare_whole(some, whole) for kind, some in texts.items()}
    cases["merging"] = compare_merging([text for some in texts.values() for text in some])
    report("tokenizing", cases, out=options.out)


if __name__ == "__main__":
    main()
