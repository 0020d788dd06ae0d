"""infinity-emb serving CLIP: embeddings of images and of texts, whose cosine its caller makes.

    python -m loadtests.service.baseline --baseline infinity_clip

The checkpoint becomes a folder that it can read (hugging_face_clip.py). It batches by itself, up to 32 inputs, its
default, in float32: its bf16 is for GPUs, its int8 changes the scores, its ONNX engine takes no images. Nothing is
cached.
"""

import os
import sys
from pathlib import Path

import open_clip

from loadtests.baselines.hugging_face_clip import write_folder

ARCH = "ViT-B-32-quickgelu"
NAME = "clip"
"""By which a request means it."""
BATCH_SIZE = 32


def main() -> None:
    checkpoint = Path(os.environ["PLUMBLINE_BASELINE_CHECKPOINT"])
    folder = checkpoint.with_suffix("")  # beside the checkpoint, and removed together with it
    write_folder(checkpoint, folder, open_clip.get_model_config(ARCH))
    server = Path(sys.executable).with_name("infinity_emb")
    options = {
        "--model-id": folder,
        "--served-model-name": NAME,
        "--engine": "torch",
        "--device": "cpu",
        "--dtype": "float32",
        "--batch-size": BATCH_SIZE,
        "--host": "127.0.0.1",
        "--port": os.environ["PLUMBLINE_BASELINE_PORT"],
        "--log-level": "warning",
    }
    switches = ["--no-bettertransformer", "--no-trust-remote-code", "--no-vector-disk-cache"]
    os.environ["OMP_NUM_THREADS"] = os.environ["PLUMBLINE_BASELINE_THREADS"]
    os.environ["DO_NOT_TRACK"] = "1"  # it reports usage otherwise
    os.environ["HF_HUB_OFFLINE"] = "1"
    command = [server, "v2", *(word for pair in options.items() for word in pair), *switches]
    os.execv(sys.executable, [sys.executable, *map(str, command)])  # noqa: S606 - the server takes this process's place, and its signals  # nosec B606


if __name__ == "__main__":
    main()
