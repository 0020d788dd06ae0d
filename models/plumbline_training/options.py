"""What every trainer takes on its command line."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch


def read_options(
    description: str | None, *, steps: Mapping[str, int], folders: Mapping[str, str]
) -> argparse.Namespace:
    """Read the command line, make the folder that it names, and set torch's threads.

    Args:
        description: Of the program.
        steps: How many steps each stage takes by default, by option.
        folders: What it reads, by option, each with the words that explain it.

    Returns:
        The options: `out`, `seed`, `threads`, `quiet`, and those that were given.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, meaning in folders.items():
        parser.add_argument(name, type=Path, required=True, help=meaning)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    for name, default in steps.items():
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    return options
