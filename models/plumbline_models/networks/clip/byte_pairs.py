"""Byte-pair encoding of one word with CLIP's vocabulary.

Sennrich et al., arXiv:1508.07909, on bytes, as Radford et al. (arXiv:2103.00020) trained it. The vocabulary file is
the one that the installed open_clip package ships; the package itself is not imported, as that would import torch.

The file's order makes the ids: 256 bytes, the same 256 ending a word, then one id a merge, then the two control
tokens. A merge is always listed after those that make its parts, so merging by rank never has to look back.
"""

import gzip
import heapq
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from plumbline_models.core.errors import CheckpointError, CheckpointNotFoundError

NUM_MERGES = 48_894
START_OF_TEXT = 2 * 256 + NUM_MERGES
END_OF_TEXT = START_OF_TEXT + 1

_FILE = "bpe_simple_vocab_16e6.txt.gz"
_END_OF_WORD = "</w>"
_ENDING = 256  # what is added to a byte's id when it ends a word
FIRST_MERGE = 2 * 256
SHIFT = 16  # two ids in one integer


@dataclass(frozen=True, slots=True)
class BytePairs:
    """The vocabulary.

    Args:
        byte_ids: By byte value, its id.
        merges: By `left << 16 | right`, the id that the two become; a lower id merges first.
    """

    byte_ids: tuple[int, ...]
    merges: dict[int, int]

    def encode_word(self, word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Encode a non-empty word.

        Returns:
            The ids, and for each the byte of the word's UTF-8 at which it begins. Time grows with n log n.
        """
        ids = [self.byte_ids[byte] for byte in word.encode("utf-8")]
        ids[-1] += _ENDING
        alive = _merge(ids, self.merges)
        return tuple(ids[index] for index in alive), tuple(alive)


def _merge(ids: list[int], merges: dict[int, int]) -> list[int]:
    """Merge in place, lowest id first and leftmost first; return where the remaining ids stand."""
    num_ids = len(ids)
    following = list(range(1, num_ids + 1))
    preceding = list(range(-1, num_ids - 1))
    waiting: dict[int, list[int]] = {}  # by what two neighbours become, where the left one stands
    for left in range(num_ids - 1):
        merged = merges.get(ids[left] << SHIFT | ids[left + 1])
        if merged is not None:
            waiting.setdefault(merged, []).append(left)
    queue = list(waiting)
    heapq.heapify(queue)
    while queue:
        merged = heapq.heappop(queue)
        for left in sorted(waiting.pop(merged)):
            right = following[left]
            if ids[left] < 0 or right >= num_ids or merges.get(ids[left] << SHIFT | ids[right]) != merged:
                continue  # one of the two was merged with its other neighbour
            ids[left], ids[right] = merged, -1
            before, after = preceding[left], following[right]
            following[left] = after
            if after < num_ids:
                preceding[after] = left
                _offer(merges.get(merged << SHIFT | ids[after]), left, waiting, queue)
            if before >= 0:
                _offer(merges.get(ids[before] << SHIFT | merged), before, waiting, queue)
    return [index for index in range(num_ids) if ids[index] >= 0]


def _offer(merged: int | None, left: int, waiting: dict[int, list[int]], queue: list[int]) -> None:
    if merged is None:
        return
    if merged in waiting:
        waiting[merged].append(left)
    else:
        waiting[merged] = [left]
        heapq.heappush(queue, merged)


@cache
def load_byte_pairs() -> BytePairs:
    """Read the vocabulary that open_clip ships, once in a process.

    Raises:
        CheckpointNotFoundError: open_clip is not installed, or without its vocabulary.
        CheckpointError: The file is not the one CLIP was trained with.
    """
    return read_byte_pairs(_find_vocabulary())


def read_byte_pairs(path: Path) -> BytePairs:
    """Read a vocabulary file.

    Raises:
        CheckpointError: The file is not the one CLIP was trained with.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : NUM_MERGES + 1]
        return _parse(lines)
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise CheckpointError("The CLIP vocabulary cannot be read.", path=str(path)) from error


def _find_vocabulary() -> Path:
    spec = importlib.util.find_spec("open_clip")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise CheckpointNotFoundError("The CLIP vocabulary is missing; it comes with open_clip_torch.", file=_FILE)


def _parse(lines: list[str]) -> BytePairs:
    symbols = _byte_symbols()
    ids = {symbol: index for index, symbol in enumerate(symbols.values())}
    ids |= {symbol + _END_OF_WORD: index + _ENDING for symbol, index in ids.items()}
    merges: dict[int, int] = {}
    for merged, line in enumerate(lines, start=FIRST_MERGE):
        left, right = line.split()
        merges[ids[left] << SHIFT | ids[right]] = merged
        ids[left + right] = merged
    if len(merges) != NUM_MERGES:
        raise CheckpointError("The CLIP vocabulary has the wrong number of merges.", num_merges=len(merges))
    return BytePairs(tuple(ids[symbols[byte]] for byte in range(256)), merges)


def _byte_symbols() -> dict[int, str]:
    """The character that stands for each byte in the file, in the order of their ids.

    Printable Latin-1 stands for itself and comes first; the rest is moved behind U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
