"""Encodings are stored within bytes, apart by kind, in memory of their own."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from plumbline_serve.encoding_cache import EncodingStore, encoding_key
from plumbline_serve.encoding_cache.store import ENTRY_BYTES, StoredEncoding


@dataclass(frozen=True)
class Answer:
    cosine: float
    tokens: np.ndarray


def embedding(value: float = 1.0, size: int = 512) -> np.ndarray:
    return np.full(size, value, np.float32)


def read(store: EncodingStore, key: Any) -> Any:
    return store.get(key)


def test_a_stored_encoding_comes_back_bit_by_bit(make_encoder):
    store, key = EncodingStore({"image": 2**20}), encoding_key(make_encoder(), b"a")
    encoding = np.random.default_rng(1).normal(size=512).astype(np.float32)
    store.put(key, encoding)
    kept = read(store, key)
    assert kept.tobytes() == encoding.tobytes()


def test_an_encoding_of_several_parts_comes_back_whole(make_encoder):
    store, key = EncodingStore({"pair": 2**20}), encoding_key(make_encoder("pair"), b"a")
    store.put(key, Answer(0.25, embedding(3.0, 4)))
    kept = read(store, key)
    assert kept.cosine == 0.25
    assert kept.tokens.tolist() == [3.0] * 4


def test_a_view_of_a_batch_is_kept_without_the_batch():
    batch = np.zeros((64, 512), np.float32)
    kept = StoredEncoding.of(batch[3])
    assert sum(len(buffer) for buffer in kept.buffers) == 512 * 4


def test_what_one_reader_could_write_no_other_would_see(make_encoder):
    store, key = EncodingStore({"image": 2**20}), encoding_key(make_encoder(), b"a")
    encoding = embedding(1.0)
    store.put(key, encoding)
    encoding[:] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        read(store, key)[:] = 3.0
    assert read(store, key)[0] == 1.0


def test_the_least_recently_used_encodings_make_room(make_encoder):
    size = ENTRY_BYTES + 4 * 512 + 200
    store, encoder = EncodingStore({"image": 3 * size}), make_encoder()
    keys = [encoding_key(encoder, bytes([i])) for i in range(4)]
    for key in keys[:3]:
        store.put(key, embedding())
    store.get(keys[0])
    store.put(keys[3], embedding())
    assert [store.get(key) is not None for key in keys] == [True, False, True, True]
    assert store.num_bytes("image") <= 3 * size


def test_an_encoding_larger_than_all_that_may_be_kept_is_not(make_encoder):
    store, encoder = EncodingStore({"image": 4096}), make_encoder()
    small, large = encoding_key(encoder, b"small"), encoding_key(encoder, b"large")
    store.put(small, embedding(1.0, 8))
    store.put(large, embedding(1.0, 4096))
    assert store.get(large) is None
    assert store.get(small) is not None


def test_nothing_is_kept_of_a_kind_that_has_no_bytes(make_encoder):
    store, key = EncodingStore({"image": 0, "text": 4096}), encoding_key(make_encoder(), b"a")
    store.put(key, embedding(1.0, 8))
    assert store.get(key) is None
    assert store.num_bytes("image") == 0


def test_no_encoding_is_taken_for_that_of_another_encoder_or_input(make_encoder):
    keys = [
        encoding_key(make_encoder("image", "small@11111111/image"), b"ab"),
        encoding_key(make_encoder("image", "small@22222222/image"), b"ab"),
        encoding_key(make_encoder("image", "small@11111111/image"), b"a", b"b"),
        encoding_key(make_encoder("image", "small@11111111/image"), b"", b"ab"),
    ]
    assert len(set(keys)) == 4
