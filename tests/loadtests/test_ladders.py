"""The requests that the growth benchmark sends, read as the service reads them."""

import io
import json

import pytest
from PIL import Image

from loadtests.service.ladders import TEXTS_A_REQUEST, TOKENS, photograph, text_steps
from plumbline_models.networks.clip.tokenizer import ClipTokenizer


def request_of(body: bytes) -> dict:
    """The JSON of a form whose first part is the request."""
    return json.loads(body.split(b"\r\n\r\n", 1)[1].split(b"\r\n", 1)[0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photographs_have_the_size_and_the_format_they_are_asked_for(kind):
    image = Image.open(io.BytesIO(photograph(96, kind)))
    assert (image.size, image.format) == ((96, 96), kind)


def test_photographs_are_no_flat_images():
    assert len(Image.open(io.BytesIO(photograph(256, "PNG"))).getcolors(2**16) or []) > 10_000


def test_texts_have_the_tokens_that_they_are_said_to_have_and_none_is_sent_twice_in_a_request():
    tokenizer = ClipTokenizer()
    for step, num_tokens in zip(text_steps(), TOKENS, strict=True):
        for body in step.bodies:
            texts = request_of(body)["texts"]
            assert len(set(texts)) == TEXTS_A_REQUEST
            tokenised = [tokenizer.encode(text) for text in texts]
            assert {len(each.ids) for each in tokenised} == {num_tokens}
            assert not any(each.truncated for each in tokenised)
