"""Values are kept within bytes, and which of them make room."""

import pytest

from plumbline_models.core.byte_bounded_cache import ByteBoundedCache


def test_a_value_is_made_once_and_the_least_recently_used_makes_room() -> None:
    kept: ByteBoundedCache[str, bytes] = ByteBoundedCache(10, len)
    made: list[str] = []

    def look_up(key: str) -> bytes:
        return kept.get_or_make(key, lambda: made.append(key) or bytes(4))  # type: ignore[func-returns-value]

    for key in ("a", "b", "a", "c", "a", "b"):
        look_up(key)
    assert made == ["a", "b", "c", "b"]  # c pushed b out, since a had been looked up after it
    assert kept.num_bytes == 8


def test_the_oldest_makes_room_however_lately_it_was_read() -> None:
    kept: ByteBoundedCache[str, bytes] = ByteBoundedCache(10, len, evicts="oldest")
    kept.put("a", bytes(4))
    kept.put("b", bytes(4))
    assert kept.get("a") == bytes(4)
    kept.put("c", bytes(4))
    assert [kept.get(key) is None for key in "abc"] == [True, False, False]


def test_the_newest_is_kept_whatever_it_takes_where_that_is_wished() -> None:
    kept: ByteBoundedCache[int, bytes] = ByteBoundedCache(10, len, keeps_newest=True)
    for key in range(3):
        assert len(kept.get_or_make(key, lambda: bytes(100))) == 100
        assert len(kept) == 1


@pytest.mark.parametrize("max_bytes", [0, 10])
def test_a_value_larger_than_all_that_may_be_kept_is_not_and_pushes_nothing_out(max_bytes: int) -> None:
    kept: ByteBoundedCache[str, bytes] = ByteBoundedCache(max_bytes, len)
    kept.put("small", bytes(max_bytes))
    kept.put("large", bytes(max_bytes + 1))
    assert kept.get("large") is None
    assert kept.get("small") == bytes(max_bytes)
    kept.pop("small")
    kept.pop("small")
    assert len(kept) == 0
