"""The first tokens of a long word, without encoding the rest of it.

Byte pairs merge by rank, wherever in the word they stand, so that its last byte may bear on its first token. How far is
bounded all the same. What stands up to a border between two tokens of a result is encoded so by itself, since no merge
crossed the border; and tokens follow one another in a result if and only if each two neighbours stay two by themselves,
since the first merge to cross their border would be made there as well. So each beginning of a word is encoded as a
shorter beginning and one token more, and the whole word as one of any so many beginnings in a row as the longest token
has bytes, and what follows. Once those agree on the first tokens, these are the whole word's.
"""

from dataclasses import dataclass, field
from functools import cache

from plumbline_models.networks.clip.byte_pairs import FIRST_MERGE, SHIFT, BytePairs, load_byte_pairs


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A vocabulary as seen from its tokens."""

    by_bytes: dict[bytes, int]
    """Tokens that do not end a word."""
    parts: dict[int, tuple[int, int]]
    """What each merged token was made of."""
    longest: int
    """Bytes of the longest token, be it one that ends a word."""


@dataclass(slots=True)
class _Beginnings:
    """How each beginning of a word is encoded, by its number of bytes; the empty one first."""

    last: list[int] = field(default_factory=lambda: [0])
    """The last token."""
    starts: list[int] = field(default_factory=lambda: [0])
    """Where the last token begins."""
    depths: list[int] = field(default_factory=lambda: [0])
    """The number of tokens."""
    heads: list[int] = field(default_factory=lambda: [0])
    """Where the first so many tokens end that are wanted; 0 where there are fewer."""

    def add(self, token: int, start: int, num_tokens: int) -> None:
        """Append the next beginning: what is encoded up to `start`, and the token.

        Args:
            token: The last one.
            start: The byte at which it begins.
            num_tokens: Of the head that is wanted.
        """
        depth = self.depths[start] + 1
        self.heads.append(len(self.last) if depth == num_tokens else self.heads[start])
        self.last.append(token)
        self.starts.append(start)
        self.depths.append(depth)

    def tokens_up_to(self, end: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens of a beginning, and the byte at which each begins, the end last."""
        ids: list[int] = []
        borders = [end]
        while end:
            ids.append(self.last[end])
            end = self.starts[end]
            borders.append(end)
        return tuple(reversed(ids)), tuple(reversed(borders))


def first_tokens(word: bytes, num_tokens: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The first tokens of a word in UTF-8, exactly as `BytePairs.encode_word` gives them.

    Args:
        word: Only as much of it is looked at as is needed.
        num_tokens: At least 1.

    Returns:
        The ids, and the byte at which each begins, with the end of the last one; None where the word ended before that
        was certain.

    Raises:
        CheckpointError: The vocabulary is missing or damaged.
    """
    pairs, pieces = load_byte_pairs(), _load_pieces()
    beginnings = _Beginnings()
    num_agreeing = 0
    for end in range(1, len(word)):  # the last byte of a word is another symbol, and is never reached
        start = end - 1
        while True:
            token = pieces.by_bytes.get(word[start:end])
            if token is not None and (start == 0 or _stay_two(pairs, pieces, beginnings.last[start], token)):
                break
            start -= 1
        beginnings.add(token, start, num_tokens)
        head = beginnings.heads[end]
        num_agreeing = num_agreeing + 1 if head and head == beginnings.heads[end - 1] else int(head > 0)
        if num_agreeing >= pieces.longest:
            return beginnings.tokens_up_to(head)
    return None


def _stay_two(pairs: BytePairs, pieces: _Pieces, left: int, right: int) -> bool:
    """Whether two tokens side by side are not merged across their border.

    Undoes, the latest first, the merges that made the two symbols at the border: none that crosses it may come before
    the merge that used one of them up. Of equal merges the left one was made first.
    """
    limit = len(pairs.byte_ids) * 2 + len(pairs.merges)
    while True:
        merged = pairs.merges.get(left << SHIFT | right)
        if merged is not None and merged < limit:
            return False
        if max(left, right) < FIRST_MERGE:
            return True
        if left > right:
            limit, left = left, pieces.parts[left][1]
        else:
            limit, right = right + 1, pieces.parts[right][0]


@cache
def _load_pieces() -> _Pieces:
    """Turn the vocabulary round, once in a process."""
    pairs = load_byte_pairs()
    parts = {merged: (both >> SHIFT, both & (1 << SHIFT) - 1) for both, merged in pairs.merges.items()}
    by_bytes = {bytes([byte]): token for byte, token in enumerate(pairs.byte_ids)}
    spelt = {token: piece for piece, token in by_bytes.items()}
    endings = {token + len(spelt): piece for token, piece in spelt.items()}
    ends = set(endings)
    spelt |= endings
    for merged, (left, right) in parts.items():  # parts come before what is made of them
        spelt[merged] = spelt[left] + spelt[right]
        if right in ends:
            ends.add(merged)
        else:
            by_bytes[spelt[merged]] = merged
    return _Pieces(by_bytes, parts, max(map(len, spelt.values())))
