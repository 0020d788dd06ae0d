"""What a cached engine is found by: the weights, the architecture and the code that made the graph."""

import hashlib
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Final

_FILES: Final = ("activations", "archive", "loading", "weight_files")
CLIP_WEIGHTS: Final = tuple(
    f"plumbline_models.checkpoints.{name}" for name in (*_FILES, "archs", "clip_weights", "hugging_face", "state_dicts")
)
"""What reads the weights of a CLIP, and its architecture."""
VQA_WEIGHTS: Final = tuple(f"plumbline_models.checkpoints.{name}" for name in (*_FILES, "shards"))
"""What reads the weights of a question-answering network."""
CAUSAL_CODE: Final = (
    *(f"plumbline_models.checkpoints.{name}" for name in ("causal", "causal_networks", "causal_pixels")),
    *(f"plumbline_models.graphs.{name}" for name in ("causal_rules", "shared_prefix")),
    *VQA_WEIGHTS,
)
"""What builds a causal network."""


def fingerprint(*facts: str, code: tuple[str, ...]) -> str:
    """Hex sha256 over what decides a graph's results; needs no framework.

    Args:
        facts: The weights' sha256, the architecture, and what else the graph was made with.
        code: Full names of the modules that define the graph; their source counts, so that a change of theirs
            never meets an engine of before. A test holds these lists against what the modules import.
    """
    digest = hashlib.sha256()
    for part in (*facts, metadata.version("open_clip_torch"), *(_source_digest(name) for name in code)):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


@cache
def _source_digest(module: str) -> str:
    """Of the module's file, found without importing it."""
    spec = util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
