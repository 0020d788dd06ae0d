"""Sets that are kept: the same distances as of a set that is sent, bound to what encoded it, and refused otherwise."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import (
    BoundToOtherError,
    ImageUndecodableError,
    InvalidFieldError,
    NoItemsError,
    TooManyArtefactsError,
    UnknownArtefactError,
)
from plumbline_models.sets.vectors import MAX_DIM, MAX_SET
from plumbline_serve.assembly import Assembly, assembled
from plumbline_serve.messages import EmbedRequest, EncodedImage
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.messages.sets import DistanceReply, DistanceRequest, ReferenceSetRequest
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.reference_sets import ReferenceSets
from plumbline_serve.requests.sets import distance
from plumbline_serve.settings import Settings
from plumbline_serve.store import Store
from plumbline_serve.store.store import MAX_REFERENCE_SETS
from tests.serve.conftest import grey_png

ROWS = [[1.0, 0.0, 0.3], [0.1, 1.0, 0.0], [0.5, 0.5, 0.1]]
FILES = [EncodedImage(grey_png(level, 40)) for level in (10, 90, 200)]


def settings(folder: Path, **changes: Any) -> Settings:
    store = SecretStr(f"sqlite:///{folder}/store.db")
    return Settings(backend="fake", scorers={"clipscore": {}}, store=store, cache_dir=folder, **changes)


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    async with assembled(settings(tmp_path)) as each:
        yield each


def given(rows: Any, encoder: str | None = "mine") -> EncodingSet:
    return EncodingSet(embeddings=rows, encoder=encoder)


async def apart(assembly: Assembly, request: DistanceRequest) -> float:
    reply = await assembly.service.measure(request)
    assert isinstance(reply, DistanceReply)
    return reply.frechet


def numbers(reply: Any) -> tuple[Any, ...]:
    assert isinstance(reply, DistanceReply)
    return reply.n_a, reply.n_b, reply.frechet, reply.frechet_floor, reply.mmd_polynomial, reply.mmd_rbf


async def test_the_distance_to_a_set_that_is_kept_is_that_to_the_same_set_sent(assembly):
    service = assembly.service
    made = await service.refer_set(ReferenceSetRequest(images=FILES, name="launch"))
    encoder = (await service.embed(EmbedRequest(images=FILES))).encoder
    assert (made.name, made.encoder, made.n, len(made.bound_to.weights)) == ("launch", encoder, 3, 64)
    assert made.bound_to.conventions["images.alpha"] == "white"
    assert await service.reference_sets() == [made]
    other = EncodingSet(images=FILES[1:])
    sent = await service.measure(DistanceRequest(other, EncodingSet(images=FILES)))
    kept = await service.measure(DistanceRequest(other, reference="launch"))
    assert numbers(kept) == numbers(sent)
    assert (kept.encoder, kept.errors_b) == (encoder, {})
    await service.delete_reference_set("launch")
    assert await service.reference_sets() == []
    with pytest.raises(UnknownArtefactError, match="no reference set 'launch'"):
        await service.measure(DistanceRequest(other, reference="launch"))
    with pytest.raises(UnknownArtefactError):
        await service.delete_reference_set("launch")


async def test_embeddings_are_kept_as_float32_and_one_of_a_name_is_replaced(assembly):
    service = assembly.service
    await service.refer_set(ReferenceSetRequest(embeddings=[[1.0, 2.0]] * 2, encoder="mine", name="a"))
    made = await service.refer_set(ReferenceSetRequest(embeddings=ROWS, encoder="mine", name="a"))
    assert (made.encoder, made.n, made.dim, made.bound_to.weights) == ("mine", 3, 3, "")
    sent = await service.measure(DistanceRequest(given(ROWS[:2]), given(ROWS)))
    kept = await service.measure(DistanceRequest(given(ROWS[:2]), reference="a"))
    assert numbers(kept) == pytest.approx(numbers(sent), abs=1e-6)  # float32 has 24 bits
    unnamed = await service.measure(DistanceRequest(given(ROWS[:2], None), reference="a"))
    assert (numbers(unnamed), unnamed.encoder) == (numbers(kept), "mine")


async def test_a_set_of_another_encoder_is_refused_by_name(assembly):
    service = assembly.service
    await service.refer_set(ReferenceSetRequest(embeddings=ROWS, encoder="mine", name="a"))
    with pytest.raises(BoundToOtherError, match="reference set a was made with mine and not with theirs"):
        await service.measure(DistanceRequest(given(ROWS, "theirs"), reference="a"))
    with pytest.raises(BoundToOtherError, match="was made with mine and not with mini-clip/image"):
        await service.measure(DistanceRequest(EncodingSet(images=FILES), reference="a"))
    with pytest.raises(InvalidFieldError) as caught:
        await service.measure(DistanceRequest(given([[1.0, 0.0]] * 2), reference="a"))
    assert caught.value.facts["errors"] == [
        {"pointer": "/reference", "detail": "must have 2 numbers in each encoding, as a has"}
    ]


async def test_other_weights_and_other_ways_to_read_images_are_refused_and_the_store_outlives_the_process(tmp_path):
    async with assembled(settings(tmp_path)) as first:
        made = await first.service.refer_set(ReferenceSetRequest(images=FILES, name="launch"))
        embedded = (await first.service.embed(EmbedRequest(images=FILES))).vectors
    asked = DistanceRequest(EncodingSet(images=FILES), reference="launch")
    async with assembled(settings(tmp_path)) as again:
        assert await again.service.reference_sets() == [made]
        assert await apart(again, asked) == pytest.approx(0.0, abs=1e-9)
        named = DistanceRequest(given(embedded, made.encoder), reference="launch")  # its name means what is loaded
        assert await apart(again, named) == pytest.approx(0.0, abs=1e-9)
    async with assembled(settings(tmp_path, images={"alpha": "drop"})) as other:
        with pytest.raises(BoundToOtherError, match=r"another setting of .*images\.alpha: "):
            await other.service.measure(asked)


async def test_weights_that_are_not_those_of_then_are_refused(open_pipeline, tmp_path):
    class Reweighed(Bindings):
        async def of_encoder(self, pipeline, encoder):
            found = await super().of_encoder(pipeline, encoder)
            return type(found)(found.scorer, "other", found.conventions)

    pipeline, store = await open_pipeline(image=2**20), Store(SecretStr(f"sqlite:///{tmp_path}/store.db"))
    files = [EncodedImage(grey_png(level, 4)) for level in (10, 20)]
    await ReferenceSets(store, Bindings()).make(pipeline, ReferenceSetRequest(images=files, name="a"))
    with pytest.raises(BoundToOtherError, match="other weights of arithmetic/image"):
        await distance(pipeline, DistanceRequest(EncodingSet(files), reference="a"), ReferenceSets(store, Reweighed()))
    store.close()


@pytest.mark.parametrize(
    ("members", "kind", "pointer"),
    [
        pytest.param({}, NoItemsError, None, id="nothing"),
        pytest.param({"embeddings": ROWS[:1], "encoder": "x"}, NoItemsError, None, id="one member"),
        pytest.param({"embeddings": ROWS}, InvalidFieldError, "/encoder", id="embeddings of nobody"),
        pytest.param({"embeddings": ROWS, "encoder": ""}, InvalidFieldError, "/encoder", id="an empty name"),
        pytest.param({"embeddings": [[0.0]] * 2, "encoder": "x"}, InvalidFieldError, "/embeddings/0", id="zeros"),
        pytest.param(
            {"images": [*FILES, EncodedImage(b"none")]}, ImageUndecodableError, "/images/3", id="a broken image"
        ),
    ],
)
async def test_what_cannot_be_kept_whole_is_not_kept(assembly, members, kind, pointer):
    with pytest.raises(kind) as caught:
        await assembly.service.refer_set(ReferenceSetRequest(name="a", **members))
    if pointer is not None:
        assert caught.value.facts["errors"][0]["pointer"] == pointer
    assert await assembly.service.reference_sets() == []


@pytest.mark.parametrize("both", [{}, {"b": given(ROWS), "reference": "a"}], ids=["neither", "both"])
async def test_a_set_is_compared_with_one_other(assembly, both):
    with pytest.raises(InvalidFieldError, match="with another, or with one that is kept"):
        await assembly.service.measure(DistanceRequest(given(ROWS), **both))


async def test_the_largest_set_is_kept_and_there_is_a_limit_to_how_many(assembly):
    service = assembly.service
    rows = list(np.random.default_rng(0).normal(size=(MAX_SET, MAX_DIM)).astype("<f4"))
    made = await service.refer_set(ReferenceSetRequest(embeddings=rows, encoder="x", name="large"))
    assert (made.n, made.dim) == (MAX_SET, MAX_DIM)
    kept = await assembly.store.get("reference set", "large")
    assert len(kept.document["float32_le"]) == MAX_SET * MAX_DIM * 4 * 4 // 3
    for index in range(MAX_REFERENCE_SETS - 1):
        await service.refer_set(ReferenceSetRequest(embeddings=ROWS, encoder="x", name=f"n{index}"))
    with pytest.raises(TooManyArtefactsError, match=f"There are {MAX_REFERENCE_SETS} reference sets"):
        await service.refer_set(ReferenceSetRequest(embeddings=ROWS, encoder="x", name="more"))
    assert len(await service.reference_sets()) == MAX_REFERENCE_SETS
