"""The CLIPScore server that most teams write: FastAPI, and open_clip called where the request is handled.

    PLUMBLINE_BASELINE_CHECKPOINT=weights PLUMBLINE_BASELINE_THREADS=2 PLUMBLINE_BASELINE_PORT=8080 \
        python fastapi_open_clip.py

A form of one JPEG file and its caption is decoded, preprocessed, tokenised and scored by itself, in FastAPI's thread
pool, in float32 as open_clip loads it.
"""

import io
import os
from typing import Annotated

import open_clip
import torch
import uvicorn
from fastapi import FastAPI, File, Form
from PIL import Image

ARCH = "ViT-B-32-quickgelu"
WEIGHT = 2.5  # Hessel et al., arXiv:2104.08718

torch.set_num_threads(int(os.environ["PLUMBLINE_BASELINE_THREADS"]))
network, _, preprocess = open_clip.create_model_and_transforms(
    ARCH, pretrained=os.environ["PLUMBLINE_BASELINE_CHECKPOINT"]
)
network.eval()
tokenize = open_clip.get_tokenizer(ARCH)
app = FastAPI()


@app.get("/ready")
def ready() -> bool:
    """Answers once the network is loaded."""
    return True


@app.post("/score")
@torch.inference_mode()
def score(image: Annotated[bytes, File()], text: Annotated[str, Form()]) -> dict[str, float]:
    """The CLIPScore of one image and one caption."""
    pixels = preprocess(Image.open(io.BytesIO(image)).convert("RGB"))[None]
    image = network.encode_image(pixels, normalize=True)
    caption = network.encode_text(tokenize([text]), normalize=True)
    cosine = float((image * caption).sum())
    return {"value": WEIGHT * max(cosine, 0.0), "cosine": cosine}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PLUMBLINE_BASELINE_PORT"]), log_level="warning")
