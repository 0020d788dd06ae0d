"""A process whose engines are cached starts without torch, and so do processes that only preprocess."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from plumbline_models.backends import Tuning
from plumbline_models.core.engines import Backend
from plumbline_models.networks.clip.encoders import ClipImageEncoder, ClipTextEncoder
from plumbline_models.networks.clip.spec import ClipSpec
from tests.results import succeeded

PREPROCESS = """
import json, sys
from pathlib import Path
import numpy as np
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers import build_scorers

folder, cache = sys.argv[1:3]
backend = open_backend("openvino", precision="fp32", tuning=Tuning(Path(cache), num_threads=1))
[scorer] = build_scorers({"clipscore": {"checkpoint": folder}}, BuildContext(backend, EncoderRegistry()))
image = scorer.image.preprocess(np.full((40, 50, 3), 90, np.uint8))
text = scorer.text.preprocess("a red circle")
"""
ENCODE = """
scorer.image.load()
scorer.text.load()
encodings = [*scorer.image.encode([image]), *scorer.text.encode([text])]
"""
REPORT = """
imported = {"torch", "open_clip", "transformers"} & set(sys.modules)
print(json.dumps([sorted(imported), [encoding.tolist() for encoding in encodings]]))
"""


def run(program: str, *arguments: str) -> list[Any]:
    command = [sys.executable, "-c", program, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


def test_cached_engines_are_loaded_without_torch_and_give_the_same_encodings(
    tiny_folder: Path, tiny_spec: ClipSpec, openvino_fp32: Backend, tuning: Tuning
) -> None:
    image, text = ClipImageEncoder(tiny_spec, openvino_fp32), ClipTextEncoder(tiny_spec, openvino_fp32)
    image.load()
    text.load()
    expected = [
        *succeeded(image.encode([image.preprocess(np.full((40, 50, 3), 90, np.uint8))])),
        *succeeded(text.encode([text.preprocess("a red circle")])),
    ]
    imported, encodings = run(PREPROCESS + ENCODE + REPORT, str(tiny_folder), str(tuning.cache_dir))
    assert imported == []
    assert np.abs(np.subtract(encodings, expected)).max() <= 1e-6


def test_preprocessing_needs_neither_torch_nor_an_engine(tiny_folder: Path, tmp_path: Path) -> None:
    imported, encodings = run(PREPROCESS + "encodings = [text]" + REPORT, str(tiny_folder), str(tmp_path / "empty"))
    assert imported == []
    assert encodings == [[49406, 320, 736, 7117, 49407]]
