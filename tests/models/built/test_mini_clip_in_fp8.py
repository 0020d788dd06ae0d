"""The embedded CLIP's image tower in fp8: compiled by the command, and its graph evaluated node by node.

Calibrated on scenes of one renderer's making, measured on the gallery's and on scenes of another seed.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from typer.testing import CliRunner

import plumbline_serve.demo
from plumbline_models.backends.embedding_loss import MIN_SPEARMAN
from plumbline_models.backends.store.engine_store import EngineStore
from plumbline_models.backends.tensorrt.attention import fuse_attention
from plumbline_models.backends.tensorrt.evaluating import Evaluation
from plumbline_models.backends.tensorrt.fp8 import Fp8
from plumbline_models.backends.tensorrt.stripped import export_graph
from plumbline_models.backends.torch_backend import TorchBackend
from plumbline_serve.cli.main import cli
from plumbline_serve.configured_scorers import encoders_of, make_scorers, wanted_graphs
from plumbline_serve.settings import Settings
from plumbline_training.evaluation.pairs import draw_pairs

GALLERY = Path(plumbline_serve.demo.__file__).parent / "gallery"
SETTINGS = Settings(backend="fake", scorers={"clipscore": {}})


def draw_folder(folder: Path, num_images: int) -> Path:
    for number, pair in enumerate(draw_pairs(num_images, seed=5)):
        Image.fromarray(pair.image).save(folder / f"{number:03}.png")
    return folder


def test_the_command_builds_the_image_tower_in_fp8_and_the_text_tower_in_fp16(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    images = draw_folder(tmp_path / "images", 16)
    options = ["--backend", "tensorrt-rtx", "--precision", "fp8", "--calibration", images, "--out", tmp_path / "out"]
    ran = CliRunner().invoke(
        cli, ["compile", *map(str, options), "--json"], env={"PLUMBLINE_SCORERS": '{"clipscore": {}}'}
    )
    report = json.loads(ran.stdout)
    assert (ran.exit_code, report["failed"]) == (0, [])
    built = [(each["graph"], each["precision"], each["device"]) for each in report["engines"]]
    assert built == [("clip_image", "fp8", "sm89+"), ("clip_text", "fp16", "sm86+")]


def test_embeddings_and_the_order_of_scores_stay(tmp_path: Path) -> None:
    graphs = {graph.name: graph for graph, _ in wanted_graphs(SETTINGS, "fake", "fp32")}
    image = graphs["clip_image"]
    assert image.preprocess is not None
    exported, file = export_graph(image, "fp16"), tmp_path / "graph.onnx"
    exported.save(file)
    fuse_attention(file)
    (tmp_path / "images").mkdir()
    fp8 = Fp8(draw_folder(tmp_path / "images", 48), EngineStore(tmp_path / "store"))
    fp8.quantise(image, file, exported.references.sizes)

    pairs = list(draw_pairs(40, seed=99))
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(GALLERY.glob("*.png"))]
    pictures += [pair.image for pair in pairs]
    pixels = np.concatenate([image.preprocess(picture)["pixels"] for picture in pictures])
    torch_backend = TorchBackend(torch.device("cpu"), precision="fp32")
    exact = torch_backend.compile(image).run({"pixels": pixels})["image_embedding"]
    found = np.concatenate([Evaluation(file).run({"pixels": part})["image_embedding"] for part in np.split(pixels, 2)])
    [text] = [encoder for encoder in encoders_of(make_scorers(SETTINGS).values()) if encoder.kind == "text"]
    ids = [np.asarray(text.preprocess(pair.truth), np.int64)[None] for pair in pairs]
    engine = torch_backend.compile(graphs["clip_text"])
    captions = np.concatenate([engine.run({"token_ids": each})["text_embedding"] for each in ids])

    # Measured 0.9954 and 0.9983; held-out images must have 0.995 and 0.99, and one of so many others may lie below.
    assert 0.99 < np.sum(exact * found, axis=1).min() < 0.9997  # above is what fp16 leaves, or nothing was quantised
    assert spearmanr(exact @ captions.T, found @ captions.T, axis=None).statistic >= MIN_SPEARMAN
