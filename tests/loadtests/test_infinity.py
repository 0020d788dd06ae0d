"""infinity-emb gets what its schema says: one kind of input per request, images as data URIs, base64 out."""

import base64

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from loadtests.service.baseline_clients import score_by_infinity
from loadtests.service.images import draw_images


def unit_rows(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((2, 512)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def test_the_cosine_is_that_of_the_two_embeddings(routed):
    of_image, of_text = unit_rows(0)
    [image] = next(draw_images(1, is_new=True)).values()
    seen = {}

    async def answer(request):
        sent = await request.json()
        [seen[sent["modality"]]] = sent["input"]
        embedded = of_image if sent["modality"] == "image" else of_text
        embedding = base64.b64encode(embedded.astype("<f4").tobytes()).decode()
        return web.json_response({"data": [{"embedding": embedding}]})

    url = await routed("/embeddings", answer)
    async with aiohttp.ClientSession() as session:
        cosine = await score_by_infinity(session, url, image, "a red cup")
    assert cosine == pytest.approx(float(of_image @ of_text), abs=1e-6)
    assert seen.keys() == {"image", "text"}
    head, _, body = seen["image"].partition(",")
    assert (head, base64.b64decode(body), seen["text"]) == ("data:image/jpeg;base64", image, "a red cup")
