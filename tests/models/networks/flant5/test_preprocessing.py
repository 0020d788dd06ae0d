"""What preprocesses images and captions is read before it is needed: a gateway that answers callers fetches nothing."""

import shutil

import numpy as np
import pytest

from loadtests.goldens.vqascore import FOLDERS, GOLDEN, context
from plumbline_models.core.protocols import PairInput
from plumbline_models.networks.causal.image_encoder import ImageInPrompt
from plumbline_models.scorers.vqascore import VqaScore

IMAGE = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
TOKENS = {"clip-flant5": np.zeros((4, 8), dtype=np.float32)}
PROMPTED = ImageInPrompt(np.zeros((1, 4, 8), dtype=np.float32), (2, 2), key=(0, 0))


@pytest.mark.parametrize("family", ["clip-flant5", *FOLDERS])
def test_nothing_of_a_checkpoint_is_read_once_its_preprocessing_is_loaded(family, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(GOLDEN / FOLDERS.get(family, "clip_flant5_tiny"), folder)
    scorer = VqaScore.build({"model": str(folder)}, context(tmp_path))
    for encoder in (scorer.image, scorer.pair):
        encoder.load_preprocessing()
    shutil.rmtree(folder)
    for encoder, raw in (
        (scorer.image, IMAGE),
        (scorer.pair, PairInput("a red circle", image_encoding=TOKENS.get(family, PROMPTED))),
    ):
        preprocessed = encoder.preprocess(raw)
        assert encoder.bucket(preprocessed) is not None
        assert encoder.cost(preprocessed) > 0
