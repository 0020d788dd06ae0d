"""The embedded CLIP's graphs as TensorRT gets them, in 16 bits, evaluated node by node on the gallery's pictures.

ONNX's reference evaluator rounds after every node in the node's own type, which is what a strongly typed engine does,
only that engines round less often where they fuse.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from PIL import Image
from scipy.stats import spearmanr

import plumbline_serve.demo
from plumbline_models.backends.export.export import export_onnx
from plumbline_models.backends.export.mixed_precision import LowPrecision, lower_precision
from plumbline_models.core.arrays import Array
from plumbline_models.core.protocols import Encoder
from plumbline_serve.configured_scorers import encoders_of, make_scorers, wanted_graphs
from plumbline_serve.settings import Settings
from tests.models.evaluation import evaluate

GALLERY = Path(plumbline_serve.demo.__file__).parent / "gallery"
SETTINGS = Settings(backend="fake", scorers={"clipscore": {}})
CAPTIONS = ("a red circle", "a green star", "a heart above a cross", "a striped square", "two blue rings")

pytestmark = [  # the evaluator's sigmoid works out both of its branches and keeps one
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning"),
]


def encoder(kind: str) -> Encoder:
    [found] = [each for each in encoders_of(make_scorers(SETTINGS).values()) if each.kind == kind]
    return found


@pytest.fixture(scope="module")
def batches() -> dict[str, dict[str, Array]]:
    """Inputs by graph: the gallery, fitted, and captions, padded."""
    image, text = encoder("image"), encoder("text")
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(GALLERY.glob("*.png"))]
    ids = [text.preprocess(caption) for caption in CAPTIONS]
    padded = np.zeros((len(ids), max(map(len, ids))), dtype=np.int64)
    for row, each in zip(padded, ids, strict=True):
        row[: len(each)] = each
    return {
        "clip_image": {"pixels": np.stack([image.preprocess(picture) for picture in pictures])},
        "clip_text": {"token_ids": padded},
    }


@pytest.fixture(scope="module")
def exported() -> dict[str, bytes]:
    return {graph.name: export_onnx(graph).to_bytes() for graph, _ in wanted_graphs(SETTINGS, "fake", "fp32")}


@pytest.fixture(scope="module")
def embed(
    exported: dict[str, bytes], batches: dict[str, dict[str, Array]]
) -> Callable[[LowPrecision | None], dict[str, Array]]:
    """Embeddings by graph, in 16 bits or, for None, as exported."""

    def run(precision: LowPrecision | None) -> dict[str, Array]:
        rows: dict[str, Array] = {}
        for name, content in exported.items():
            model = ir.from_proto(onnx.load_from_string(content))
            if precision is not None:
                assert lower_precision(model, precision) > 10
            [rows[name]] = evaluate(ir.to_proto(model), batches[name])
        return rows

    return run


@pytest.mark.parametrize(
    ("precision", "least_cosine", "largest_error", "least_order"),
    # About twice what was measured: 1 - 6e-7 and 3.1e-4 in fp16, 1 - 3.4e-5 and 1.8e-3 in bf16; the order was kept.
    [pytest.param("fp16", 1 - 1e-6, 6e-4, 0.999, id="fp16"), pytest.param("bf16", 1 - 9e-5, 5e-3, 0.999, id="bf16")],
)
def test_embeddings_and_cosines_stay(
    embed: Callable[[LowPrecision | None], dict[str, Array]],
    precision: LowPrecision,
    least_cosine: float,
    largest_error: float,
    least_order: float,
) -> None:
    exact, found = embed(None), embed(precision)
    for name in exact:
        lengths = np.linalg.norm(exact[name], axis=1) * np.linalg.norm(found[name], axis=1)
        cosines = np.sum(found[name] * exact[name], axis=1, dtype=np.float64) / lengths
        assert cosines.min() >= least_cosine
    before, after = (rows["clip_image"] @ rows["clip_text"].T for rows in (exact, found))
    assert 0 < np.abs(after - before).max() <= largest_error
    assert spearmanr(before, after, axis=None).statistic >= least_order
