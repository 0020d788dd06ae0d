"""What one input does wrong is its own error, and its neighbours never see it."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from loadtests.goldens.clips import build_tiny
from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import EngineError
from plumbline_models.networks.clip.encoders import ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from tests.results import succeeded


@pytest.fixture
def poisoned(tmp_path: Path) -> ClipSpec:
    """A CLIP whose token `cat` is not a number."""
    folder = build_tiny(tmp_path)
    file = folder / "open_clip_model.safetensors"
    tensors = load_file(file)
    tensors["token_embedding.weight"][2368] = np.nan
    save_file(tensors, file)
    return ClipSpec.of(ClipSection(checkpoint=folder))


def test_an_encoding_without_numbers_is_an_error_of_its_own(poisoned: ClipSpec, torch_fp32: Backend) -> None:
    encoder = ClipTextEncoder(poisoned, torch_fp32)
    encoder.load()
    preprocessed = [encoder.preprocess(text) for text in ("a dog", "a cat", "a bird", "two cat")]
    assert 2368 in preprocessed[1]
    dog, cat, bird, cats = encoder.encode(preprocessed)
    assert isinstance(cat, EngineError)
    assert isinstance(cats, EngineError)
    assert cat is not cats
    assert np.isfinite(succeeded([dog, bird])).all()
