"""What is kept of what was made lately."""

from plumbline_models.core.byte_bounded_cache import ByteBoundedCache


def test_a_value_is_made_once_and_the_one_unused_longest_goes_first() -> None:
    kept: ByteBoundedCache[str, bytes] = ByteBoundedCache(10, len)
    made: list[str] = []

    def ask(key: str, size: int = 4) -> bytes:
        return kept.get(key, lambda: made.append(key) or bytes(size))  # type: ignore[func-returns-value]

    for key in ("a", "b", "a", "c", "a", "b"):
        ask(key)
    assert made == ["a", "b", "c", "b"]  # c pushed b out, since a had been asked for after it


def test_the_newest_is_kept_whatever_it_takes() -> None:
    kept: ByteBoundedCache[int, bytes] = ByteBoundedCache(10, len)
    for key in range(3):
        assert len(kept.get(key, lambda: bytes(100))) == 100
        assert len(kept) == 1
