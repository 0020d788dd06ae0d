"""Weights that are no numbers are found while an encoder loads, not by every request."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import plumbline_models
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.errors import EngineError
from plumbline_models.core.protocols import BuildContext, Encoder
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.fclipscore import FClipScore
from plumbline_models.scorers.qualiclip import QualiClip
from plumbline_models.scorers.vqascore import VqaScore

EMBEDDED = Path(plumbline_models.__file__).parent / "embedded"
GOLDEN = Path(__file__).parents[3] / "golden" / "vqascore"
CASES: dict[str, tuple[Any, Path, Callable[[str], dict[str, Any]]]] = {
    "clipscore": (ClipScore, EMBEDDED / "mini-clip", lambda folder: {"checkpoint": folder}),
    "fclipscore": (FClipScore, EMBEDDED / "mini-clip", lambda folder: {"checkpoint": folder}),
    "qualiclip": (QualiClip, EMBEDDED / "mini-qualiclip", lambda folder: {"checkpoint": folder}),
    "vqascore": (VqaScore, EMBEDDED / "mini-flant5", lambda folder: {"model": folder}),
    "vqascore, causal": (VqaScore, GOLDEN / "smolvlm_tiny", lambda folder: {"model": folder, "family": "smolvlm"}),
}


def spoil(folder: Path, value: float) -> None:
    """Put a value into every matrix of a checkpoint."""
    [file] = folder.glob("*.safetensors")
    tensors = load_file(file)
    for tensor in tensors.values():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor.view(-1)[:: tensor.shape[-1]] = value
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", CASES)
def test_every_encoder_refuses_to_load_and_names_itself_and_its_weights(
    name: str, value: float, tmp_path: Path
) -> None:
    scorer, original, section = CASES[name]
    folder = tmp_path / original.name
    for each in {original, EMBEDDED / "mini-clip"}:  # whose tower mini-flant5 looks for beside itself
        spoil(Path(shutil.copytree(each, tmp_path / each.name)), value)
    backend = open_backend("torch", precision="fp32", tuning=Tuning(tmp_path, num_threads=1, device="cpu"))
    built = scorer.build(section(str(folder)), BuildContext(backend, EncoderRegistry()))
    encoders: list[Encoder] = [each for each in (built.image, built.text, built.pair) if each is not None]
    assert encoders
    for encoder in encoders:
        with pytest.raises(EngineError, match=r"gives no numbers for a usual input: its weights \(.+\)") as caught:
            encoder.load()
        assert encoder.key in caught.value.detail
        assert encoder.origin().source in caught.value.detail
        with pytest.raises(EngineError, match="gives no numbers"):  # it stays so, however often it is tried
            encoder.load()
