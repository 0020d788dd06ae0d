"""A CLIPScore server of LitServe: open_clip behind its own batching.

    [PLUMBLINE_BASELINE_PRECISION=bf16] python -m loadtests.service.baseline --baseline litserve_open_clip

As LitServe's documentation has it: forms are decoded in `decode_request`, `max_batch_size` and `batch_timeout` collect
requests, one worker computes. float32, as open_clip loads it, or bf16 by torch's autocast.
"""

import io
import os
import signal
from contextlib import AbstractContextManager
from typing import Any

import litserve
import open_clip
import torch
from fastapi import Request
from PIL import Image
from torch import Tensor

ARCH = "ViT-B-32-quickgelu"
WEIGHT = 2.5  # Hessel et al., arXiv:2104.08718
BATCH_SIZE, BATCH_TIMEOUT_S = 16, 0.01


class ClipScore(litserve.LitAPI):
    """Scores a form of one image and one caption; the methods are called in the order in which they stand."""

    def setup(self, device: str) -> None:
        """Load the network, once in a worker."""
        torch.set_num_threads(int(os.environ["PLUMBLINE_BASELINE_THREADS"]))
        checkpoint = os.environ["PLUMBLINE_BASELINE_CHECKPOINT"]
        self.network, _, self.preprocess = open_clip.create_model_and_transforms(
            ARCH, pretrained=checkpoint, device=device
        )
        self.network.eval()
        self.tokenize = open_clip.get_tokenizer(ARCH)

    def decode_request(self, request: Request) -> tuple[Tensor, Tensor]:
        """`[3, 224, 224]` normalised pixels and `[77]` tokens of one form."""
        image = Image.open(io.BytesIO(request["image"].file.read())).convert("RGB")
        return self.preprocess(image), self.tokenize([request["text"]])[0]

    def batch(self, inputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Both of all forms."""
        pixels, tokens = zip(*inputs, strict=True)
        return torch.stack(pixels), torch.stack(tokens)

    @torch.inference_mode()
    def predict(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cosines."""
        pixels, tokens = batch
        with _precision():
            image = self.network.encode_image(pixels)
            text = self.network.encode_text(tokens)
        return torch.nn.functional.cosine_similarity(image.float(), text.float())

    def unbatch(self, output: Tensor) -> list[float]:
        """One a form."""
        return output.tolist()

    def encode_response(self, output: float) -> dict[str, float]:
        """The answer to one form."""
        return {"value": WEIGHT * max(output, 0.0), "cosine": output}


def _precision() -> AbstractContextManager[Any]:
    is_bf16 = os.environ.get("PLUMBLINE_BASELINE_PRECISION") == "bf16"
    return torch.autocast("cpu", torch.bfloat16, enabled=is_bf16)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it stops its processes on Ctrl-C only
    api = ClipScore(max_batch_size=BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S, api_path="/score")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PLUMBLINE_BASELINE_PORT"]),
        log_level="warning",
        generate_client_file=False,
    )
