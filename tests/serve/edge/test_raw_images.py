"""One picture scores alike as file, PIL image, numpy array and raw pixels, up to the limit of pixels."""

import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import pytest

import plumbline_client as client
from plumbline_models.core.arrays import Pixels
from plumbline_models.core.errors import ImageTooLargeError, PlumblineError, RequestTooLargeError
from plumbline_models.images.colour import READ_MODES
from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.image_decoder import ImageDecoder
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.messages import EmbedReply, EncodedImage, RawImage, Timing
from plumbline_serve.requests.images import attempt, read_pixels
from plumbline_serve.settings import Limits, Settings
from plumbline_wire.v1 import scoring_pb2 as pb

DECODERS = [ImageDecoder(DecodePolicy(alpha=alpha, max_pixels=10_000, max_bytes=10_000)) for alpha in ("white", "drop")]
NOISE = np.random.default_rng(3).integers(0, 256, (100, 100, 4), dtype=np.uint8)


def sent(image: client.Image, decoder: ImageDecoder) -> Pixels:
    assert image.content is not None
    if image.shape is None:
        return read_pixels(EncodedImage(image.content), decoder)
    assert image.channels in (3, 4)
    channels: Literal[3, 4] = 3 if image.channels == 3 else 4
    return read_pixels(RawImage(image.content, *image.shape, channels), decoder)


def picture_of(mode: str) -> PIL.Image.Image:
    if mode == "I;16":
        return PIL.Image.frombytes(mode, (40, 20), NOISE[:40, :40, 0].tobytes())
    return PIL.Image.fromarray(NOISE[:40, :40]).convert("LA" if mode == "La" else "RGB" if mode == "LAB" else mode)


@pytest.mark.parametrize("side", ["height", "width"])
def test_a_side_that_no_image_can_have_is_refused(open_embedded, form, side: str) -> None:
    """An area of thousands of digits is neither a cost nor to be written into a log."""
    edge = open_embedded(Settings(scorers={"qualiclip": {}}))
    for size in (2**32, 10**400, 10**4000):
        shape = {"height": 1, "width": 1, side: size}
        document = {"items": [{"image": {"part": "a", "raw": shape}}]}
        reply = edge.http.post("/v1/score", **form(json.dumps(document).encode(), a=b"abc"))
        assert (reply.status_code, reply.json()["errors"][0]["detail"]) == (422, "must be below 4.29497e+09")


@pytest.mark.parametrize("decoder", DECODERS, ids=["white", "drop"])
@pytest.mark.parametrize("mode", sorted(READ_MODES))
def test_a_picture_in_any_mode_is_seen_as_its_file(mode: str, decoder: ImageDecoder, tmp_path: Path) -> None:
    path = tmp_path / "picture.tiff"
    picture_of(mode).save(path, compression="tiff_deflate")
    with PIL.Image.open(path) as picture:
        np.testing.assert_array_equal(sent(client.Image.pil(picture), decoder), sent(client.Image.file(path), decoder))


@pytest.mark.parametrize("decoder", DECODERS, ids=["white", "drop"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P of RGB", "RGB", "L", "1", "I;16"])
def test_a_transparent_picture_is_seen_as_its_png(mode: str, decoder: ImageDecoder) -> None:
    picture = picture_of("RGB").quantize() if mode == "P of RGB" else picture_of(mode)
    if mode not in {"RGBA", "LA", "P"}:  # a palette made of RGBA has transparency of its own
        picture.info["transparency"] = picture.getpixel((0, 0))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    image = client.Image.pil(picture)
    assert image.channels == 4
    with PIL.Image.open(io.BytesIO(file.getvalue())) as read:
        assert client.Image.pil(read).content == image.content
    assert image.shape is not None
    seen = sent(client.Image.data(file.getvalue()), decoder)
    np.testing.assert_array_equal(sent(image, decoder), seen)
    pixels = np.frombuffer(image.content or b"", np.uint8).reshape(*image.shape, 4)
    np.testing.assert_array_equal(sent(client.Image.raw(pixels), decoder), seen)


@pytest.mark.parametrize("decoder", DECODERS, ids=["white", "drop"])
def test_pixels_are_bounded_by_their_number_alone(decoder: ImageDecoder) -> None:
    picture = PIL.Image.fromarray(NOISE).convert("RGB")  # 30,000 bytes raw, where files have 10,000
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=30)
    assert sent(client.Image.data(file.getvalue()), decoder).shape == (100, 100, 3)
    for image in (client.Image.pil(picture), client.Image.raw(np.asarray(picture))):
        np.testing.assert_array_equal(sent(image, decoder), np.asarray(picture))
    for image in (client.Image.pil(PIL.Image.fromarray(NOISE)), client.Image.raw(NOISE)):  # 40,000 bytes raw
        assert sent(image, decoder).shape == (100, 100, 3)
    with pytest.raises(ImageTooLargeError):
        sent(client.Image.raw(np.zeros((101, 100, 3), np.uint8)), decoder)


def test_one_picture_fits_into_a_form_and_a_message_in_any_way_that_it_may_come() -> None:
    assert Limits().max_form_bytes > 4 * Limits().max_pixels
    assert Limits(max_pixels=1000).max_form_bytes == Limits().max_request_bytes
    budget = BytesInFlight(Limits(max_request_bytes=1000, max_pixels=100_000))
    with budget.share() as document, budget.share() as form:
        form.may_hold_pixels = True
        form.take(400_000)
        with pytest.raises(RequestTooLargeError):
            form.take(2**17)
        with pytest.raises(RequestTooLargeError):
            document.take(1001)


@pytest.mark.parametrize("channels", [3, 4])
def test_raw_pixels_beyond_the_bytes_of_a_request_are_taken_over_either_wire(open_over, form, channels: int) -> None:
    edge = open_over(Settings(limits=Limits(max_request_bytes=1000, max_pixels=100_000)))
    pixels = bytes(channels * 100_000)
    document = b'{"images":[{"part":"a","raw":{"height":250,"width":400,"channels":%d}}]}' % channels
    assert edge.http.post("/v1/embed", **form(document, a=pixels)).status_code == 200
    raw = pb.RawImage(data=pixels, height=250, width=400, channels=channels)
    assert edge.rpc.Embed(pb.EmbedRequest(images=[pb.ImageSource(raw=raw)]), timeout=30).vectors
    too_large = edge.http.post("/v1/embed", content=pixels, headers={"content-type": "application/json"})
    assert too_large.status_code == 413


class ReadingService:
    """Reads images as the request path does, and gives the mean of each."""

    async def embed(self, request, caller):
        decoder = ImageDecoder(DecodePolicy(max_bytes=10_000))
        vectors: list[Any] = [attempt(read_pixels, image, decoder) for image in request.images]
        means = [each if isinstance(each, PlumblineError) else np.full(3, each.mean(), np.float32) for each in vectors]
        return EmbedReply("mini/image", 3, means, Timing(0, 0, 0, 0), truncated=[])


@pytest.fixture
def clients(open_over):
    edge = open_over(Settings(limits=Limits(max_request_bytes=10_000, max_image_bytes=10_000)), ReadingService())
    with client.Client(edge.url) as rest, client.GrpcClient(edge.target) as rpc:
        yield rest, rpc


def test_a_large_transparent_picture_is_scored_over_either_wire(clients) -> None:
    picture = PIL.Image.fromarray(NOISE).resize((1000, 1000), PIL.Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, format="PNG")
    mean = read_pixels(EncodedImage(file.getvalue()), ImageDecoder(DecodePolicy())).mean()
    for each in clients:
        (vector,) = each.embed([picture]).vectors
        assert vector.data == np.full(3, mean, np.float32).tobytes()


def test_pixels_of_another_length_are_refused_alike_over_either_wire(clients) -> None:
    details = set()
    for each in clients:
        for wrong in (client.Image(b"x" * 12, (2, 2), channels=4), client.Image(b"x" * 16, (2, 2), channels=3)):
            (vector,) = each.embed([wrong]).vectors
            details.add(vector.error.detail)
    assert details == {f"The number of raw bytes is not height * width * {channels}." for channels in (3, 4)}
