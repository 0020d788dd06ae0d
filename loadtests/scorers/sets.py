"""What values of the largest sets cost: CPU seconds and memory, of random encodings with 256 prompts.

python -m loadtests.scorers.sets
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from plumbline_models.sets.distances import frechet, frechet_floor, mmd_polynomial, mmd_rbf
from plumbline_models.sets.diversity import eigenvalues
from plumbline_models.sets.duplicates import groups
from plumbline_models.sets.sce import sce
from plumbline_models.sets.vectors import MAX_SET, Matrix, unit_rows

_NUM_PROMPTS = 256
_THRESHOLD = 0.98


def _set(num: int, dim: int, seed: int) -> Sequence[Any]:
    return list(np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32))


def _diversity(a: Matrix, texts: Matrix) -> None:
    for is_centred in (False, True):
        eigenvalues(a, is_centred=is_centred)
    groups(a, range(len(a)), threshold=_THRESHOLD)
    sce(texts, a)


def _distance(a: Matrix, b: Matrix) -> None:
    for distance in (frechet, frechet_floor, mmd_polynomial, mmd_rbf):
        distance(a, b)


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=MAX_SET, help="members of each set")
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 768, 1024, 1536])
    options = parser.parse_args()
    print("| dimensions | diversity, CPU s | distance, CPU s | peak beside the sets as sent, MiB |")
    print("| --- | --- | --- | --- |")
    for dim in options.dims:
        given = [_set(options.num, dim, seed) for seed in (0, 1)]
        texts = unit_rows(_set(_NUM_PROMPTS, dim, 2))[np.arange(options.num) % _NUM_PROMPTS]
        before = _resident_mib()
        a, b = map(unit_rows, given)
        spent = _seconds(partial(_diversity, a, texts)), _seconds(partial(_distance, a, b))
        print(f"| {dim} | {spent[0]:.1f} | {spent[1]:.1f} | {_peak_mib() - before:.0f} |")


if __name__ == "__main__":
    main()
