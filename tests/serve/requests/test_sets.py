"""Values of sets on the request path: what is encoded, what is left out, what is refused, and when it ends."""

import asyncio
import hashlib
import threading

import numpy as np
import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import (
    DeadlineExceededError,
    ImageUndecodableError,
    InvalidFieldError,
    NoItemsError,
    OverloadedError,
    PlumblineError,
    TextTooLongError,
    TooManyItemsError,
    UnknownImageError,
)
from plumbline_models.sets.vectors import MAX_SET
from plumbline_serve.messages import EmbedRequest, EncodedImage, RawImage
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.messages.sets import DistanceRequest, DiversityRequest
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.requests.embedding import embed
from plumbline_serve.requests.reference_sets import ReferenceSets
from plumbline_serve.requests.sets import distance, diversity, measure
from plumbline_serve.scheduling.request_context import RequestContext
from plumbline_serve.scheduling.work import Work
from plumbline_serve.store import Store

PLANE = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.001], [1.0, 0.0]]
NONE_KEPT = ReferenceSets(Store(SecretStr("sqlite:////nowhere/store.db")), Bindings())
IMAGES_KEPT = {"image": 2**20}


def encoded(encoder) -> list[float]:
    return sorted(each for batch in encoder.batches for each in batch)


@pytest.fixture
async def pipeline(open_pipeline):
    return await open_pipeline(**IMAGES_KEPT)


async def test_images_are_encoded_with_the_caches_of_all_requests(pipeline, scorers, png):
    images = [EncodedImage(png(10)), EncodedImage(png(20)), EncodedImage(png(10))]
    await embed(pipeline, EmbedRequest(images=images[:1]))
    reply = await diversity(pipeline, DiversityRequest(images))
    assert (reply.encoder, reply.n, reply.identical) == ("arithmetic/image", 3, [[0, 2]])
    assert reply.duplicates == [[0, 1, 2]]  # of one dimension all have one direction
    assert reply.vendi == pytest.approx({"1": 1.0, "2": 1.0, "inf": 1.0})
    assert encoded(scorers["mean"].image) == [10.0, 20.0]


async def test_hashes_find_what_is_kept_and_say_of_others_that_it_is_not(pipeline, scorers, png):
    files = [png(10), png(20)]
    await embed(pipeline, EmbedRequest(images=[EncodedImage(files[0]), EncodedImage(files[1])]))
    hashes = [hashlib.sha256(each).hexdigest() for each in (*files, b"never sent", files[0])]
    reply = await diversity(pipeline, DiversityRequest(hashes=[*hashes[:3], hashes[3].upper()]))
    assert (reply.n, reply.identical) == (3, [[0, 3]])
    assert {index: type(error) for index, error in reply.errors.items()} == {2: UnknownImageError}
    assert encoded(scorers["mean"].image) == [10.0, 20.0]
    with pytest.raises(UnknownImageError):
        await diversity(pipeline, DiversityRequest(hashes=[hashes[2]]))


async def test_a_hash_does_not_wait_for_an_image_that_is_under_way_nor_fail_it(pipeline, scorers, png):
    encoder = scorers["mean"].image
    encoder.gate = threading.Event()
    file = png(10)
    under_way = asyncio.create_task(embed(pipeline, EmbedRequest(images=[EncodedImage(file)])))
    assert await asyncio.to_thread(encoder.entered.wait, 30)
    with pytest.raises(UnknownImageError):
        await diversity(pipeline, DiversityRequest(hashes=[hashlib.sha256(file).hexdigest()]))
    encoder.gate.set()
    assert [np.ravel(each).tolist() for each in (await under_way).vectors if not isinstance(each, PlumblineError)] == [
        [1.0]
    ]


async def test_encodings_of_callers_need_no_encoder(pipeline, scorers):
    request = DiversityRequest(embeddings=PLANE, encoder="theirs", orders=[1.0], near_duplicate=0.999)
    reply = await diversity(pipeline, request)
    assert (reply.encoder, reply.n, reply.duplicates, reply.identical) == ("theirs", 4, [[0, 2, 3]], [[0, 3]])
    shares = np.array([0.75, 0.25])
    assert reply.vendi["1"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)
    assert reply.mean_pairwise == pytest.approx(0.5, rel=1e-2)
    assert reply.sce is None
    assert scorers["mean"].image.batches == []


async def test_a_weight_belongs_to_its_member_also_where_another_is_left_out(pipeline, png):
    images = [EncodedImage(b"no image"), EncodedImage(png(10)), EncodedImage(png(20))]
    reply = await diversity(pipeline, DiversityRequest(images, weights=[1e9, 1.0, 1.0]))
    assert (reply.n, list(reply.errors)) == (2, [0])
    assert isinstance(reply.errors[0], ImageUndecodableError)
    assert reply.duplicates == [[1, 2]]


async def test_prompts_are_encoded_and_one_that_cannot_be_takes_its_member_out(pipeline, scorers):
    texts = ["a", "bb", "a", "x" * 21]
    reply = await diversity(pipeline, DiversityRequest(embeddings=PLANE, texts=texts))
    assert (reply.n, {index: type(error) for index, error in reply.errors.items()}) == (3, {3: TextTooLongError})
    assert reply.sce is not None
    assert (reply.sce.samples_per_direction, reply.sce.reliable) == (3.0, False)  # texts of one dimension
    assert encoded(scorers["product"].text) == [1.0, 2.0]


async def test_two_sets_are_compared_whatever_they_come_as(pipeline, png):
    await embed(pipeline, EmbedRequest(images=[EncodedImage(png(30))]))
    hashes = [hashlib.sha256(png(30)).hexdigest()] * 2
    images = [EncodedImage(png(10)), EncodedImage(png(20)), EncodedImage(b"none")]
    reply = await distance(pipeline, DistanceRequest(EncodingSet(images), EncodingSet(hashes=hashes)), NONE_KEPT)
    assert (reply.encoder, reply.n_a, reply.n_b) == ("arithmetic/image", 2, 2)
    assert (list(reply.errors_a), list(reply.errors_b)) == ([2], [])
    assert reply.frechet == pytest.approx(0.0, abs=1e-12)
    given = EncodingSet(embeddings=[[1.0], [-1.0]])
    apart = await distance(pipeline, DistanceRequest(EncodingSet(images), given, rbf_sigma=2.0), NONE_KEPT)
    assert apart.frechet == pytest.approx(1.0 + 2.0)  # of the means, and of the spread of one of them
    assert (apart.encoder, apart.rbf_sigma) == ("arithmetic/image", 2.0)


@pytest.mark.parametrize(
    ("request_", "kind", "pointer"),
    [
        pytest.param(DiversityRequest(), NoItemsError, None, id="nothing"),
        pytest.param(DiversityRequest(embeddings=[[1.0]] * (MAX_SET + 1)), TooManyItemsError, None, id="too many"),
        pytest.param(DiversityRequest([RawImage(b"", 1, 1)] * 11), TooManyItemsError, None, id="too many images"),
        pytest.param(
            DiversityRequest(embeddings=[[1.0]] * 11, texts=[str(i) for i in range(11)]),
            TooManyItemsError,
            None,
            id="too many texts",
        ),
        pytest.param(DiversityRequest(embeddings=[[1.0]], hashes=["00" * 32]), InvalidFieldError, "", id="two forms"),
        pytest.param(
            DiversityRequest(embeddings=[[1.0]], texts=["a", "b"]), InvalidFieldError, "/texts", id="other texts"
        ),
        pytest.param(
            DiversityRequest(embeddings=[[1.0]], weights=[]), InvalidFieldError, "/weights", id="other weights"
        ),
        pytest.param(
            DiversityRequest(embeddings=[[1.0], [0.0]]), InvalidFieldError, "/embeddings/1", id="no direction"
        ),
        pytest.param(
            DistanceRequest(EncodingSet(embeddings=[[1.0]]), EncodingSet(embeddings=[[1.0]])),
            NoItemsError,
            None,
            id="one member",
        ),
        pytest.param(
            DistanceRequest(EncodingSet(embeddings=[[1.0]] * 2), EncodingSet(embeddings=[[1.0, 0.0], [1.0]])),
            InvalidFieldError,
            "/b/embeddings/1",
            id="ragged",
        ),
        pytest.param(
            DistanceRequest(EncodingSet(embeddings=[[1.0]] * 2), EncodingSet(embeddings=[[1.0, 0.0]] * 2)),
            InvalidFieldError,
            "/b",
            id="of two lengths",
        ),
        pytest.param(
            DistanceRequest(
                EncodingSet(embeddings=[[1.0]] * 2, encoder="x"), EncodingSet(embeddings=[[1.0]] * 2, encoder="y")
            ),
            InvalidFieldError,
            "/b/encoder",
            id="of two encoders",
        ),
    ],
)
async def test_what_is_no_set_is_refused(pipeline, request_, kind, pointer):
    with pytest.raises(kind) as caught:
        await measure(pipeline, request_, NONE_KEPT)
    if pointer is not None:
        assert caught.value.facts["errors"][0]["pointer"] == pointer


async def test_a_deadline_ends_the_work_of_a_large_set_and_leaves_its_thread_to_others(pipeline, observer):
    rows = list(np.random.default_rng(0).normal(size=(MAX_SET, 64)))
    large = DistanceRequest(EncodingSet(embeddings=rows), EncodingSet(embeddings=rows), timeout_ms=50.0)
    with pytest.raises(DeadlineExceededError):
        await distance(pipeline, large, NONE_KEPT)
    assert observer.expired_stages == ["request"]
    small = await diversity(pipeline, DiversityRequest(embeddings=PLANE, timeout_ms=60_000.0))
    assert small.n == 4


@pytest.mark.parametrize(("timeout_ms", "reason"), [(None, "wait"), (5000.0, "deadline")])
async def test_a_set_that_would_wait_too_long_for_others_is_refused_at_once(open_pipeline, timeout_ms, reason):
    """What waits holds its bytes of the budget that all requests share."""
    pipeline = await open_pipeline(max_wait_s=2.0)
    pool, gate = pipeline._tools.pools.sets, threading.Event()
    large = asyncio.create_task(pool.run(gate.wait, 30, context=RequestContext(), work=Work("diversity", 1e9)))
    await asyncio.sleep(0)
    request = DiversityRequest(embeddings=[[1.0, 0.0], [0.0, 1.0]], timeout_ms=timeout_ms)
    with pytest.raises(OverloadedError) as refusal:
        await diversity(pipeline, request)
    assert (refusal.value.facts["reason"], pool.num_queued) == (reason, 0)
    gate.set()
    await large
    assert (await diversity(pipeline, request)).n == 2
