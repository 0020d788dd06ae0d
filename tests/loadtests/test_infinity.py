"""infinity-emb is asked as its schema has it: one kind of input a request, pictures as data URIs, base64 out."""

import base64

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from loadtests.service.pictures import pictures
from loadtests.service.sides import ask_infinity


def unit_rows(seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((2, 512)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


async def test_the_cosine_is_that_of_the_two_embeddings(routed):
    image, text = unit_rows(0)
    [picture] = next(pictures(1, is_new=True)).values()
    seen = {}

    async def answer(request):
        asked = await request.json()
        [seen[asked["modality"]]] = asked["input"]
        row = image if asked["modality"] == "image" else text
        embedding = base64.b64encode(row.astype("<f4").tobytes()).decode()
        return web.json_response({"data": [{"embedding": embedding}]})

    url = await routed("/embeddings", answer)
    async with aiohttp.ClientSession() as session:
        cosine = await ask_infinity(session, url, picture, "a red cup")
    assert cosine == pytest.approx(float(image @ text), abs=1e-6)
    assert seen.keys() == {"image", "text"}
    head, _, body = seen["image"].partition(",")
    assert (head, base64.b64decode(body), seen["text"]) == ("data:image/jpeg;base64", picture, "a red cup")
