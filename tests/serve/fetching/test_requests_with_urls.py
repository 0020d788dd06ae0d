"""Images by URL on the request path: fetched where they are needed, once, and like any other image from then on."""

import asyncio

import pytest

from plumbline_models.core.errors import (
    DeadlineExceededError,
    ImageTooLargeError,
    ImageUndecodableError,
    UrlSourceRefusedError,
    UrlUnreachableError,
)
from plumbline_serve.memory.bytes_in_flight import BytesInFlight
from plumbline_serve.messages import (
    EmbedRequest,
    EncodedImage,
    FilterRequest,
    ImageSource,
    Item,
    ItemFailure,
    ItemScores,
    ItemVerdict,
    RankRequest,
    ScoreRequest,
    Threshold,
    UrlImage,
)
from plumbline_serve.requests.embedding import embed
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.requests.ranking import rank
from plumbline_serve.scheduling.concurrency import release
from plumbline_serve.settings import Limits
from tests.serve.fetching.hosts import NAME, Host, make_fetcher, redirect, reply


@pytest.fixture
def in_flight() -> BytesInFlight:
    return BytesInFlight(Limits())


@pytest.fixture
async def host(open_host, png) -> Host:
    """Has an image of brightness N at /N.png."""

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        path = head.split()[1].decode()
        if path == "/hang":
            await asyncio.Event().wait()
        found = path.removeprefix("/").partition(".png")[0]
        writer.write(reply(png(int(found))) if found.isdecimal() else reply(status="404 Not Found"))

    return await open_host(answer)


@pytest.fixture
async def pipeline(open_pipeline, names, ca_file, host, in_flight):
    fetcher = make_fetcher(names, ca_file, [host], in_flight)
    return await open_pipeline(fetcher=fetcher, image=2**20)


def image(host: Host, path: object) -> UrlImage:
    return UrlImage(f"https://{NAME}:{host.port}/{path}")


async def test_an_image_by_url_scores_as_its_bytes_do(pipeline, host, png) -> None:
    items = [Item("0", image(host, "10.png"), "abc"), Item("1", EncodedImage(png(10)), "abc")]
    by_url, by_bytes = (await pipeline.score(ScoreRequest(items))).results
    assert by_url.scores == by_bytes.scores


async def test_one_bad_url_harms_no_neighbour(pipeline, host, png, in_flight) -> None:
    images: list[ImageSource] = [image(host, "10.png"), image(host, "none"), UrlImage("ftp://a")]
    images += [EncodedImage(png(20)), UrlImage("")]
    reply_ = await pipeline.score(ScoreRequest([Item(str(i), each, "abc") for i, each in enumerate(images)]))
    found = [result.error if isinstance(result, ItemFailure) else None for result in reply_.results]
    kinds = [None, UrlUnreachableError, UrlSourceRefusedError, None, UrlSourceRefusedError]
    assert [type(each) if each else None for each in found] == kinds
    assert in_flight.num_bytes == 0


async def test_what_is_fetched_is_read_as_any_other_image(open_host, open_pipeline, names, ca_file, in_flight) -> None:
    html, large = await open_host(reply(b"<html>", "content-type: image/png")), await open_host(reply(bytes(200_000)))
    pipeline = await open_pipeline(fetcher=make_fetcher(names, ca_file, [html, large], in_flight))
    items = [Item("0", image(html, ""), "a"), Item("1", image(large, ""), "a")]
    results = (await pipeline.score(ScoreRequest(items))).results
    assert [type(result.error) for result in results] == [ImageUndecodableError, ImageTooLargeError]


async def test_content_that_is_known_is_not_encoded_again(pipeline, host, scorers) -> None:
    for path in ("10.png", "10.png?again"):
        reply_ = await pipeline.score(ScoreRequest([Item("0", image(host, path), "abc")], scorers=["mean"]))
        assert isinstance(reply_.results[0], ItemScores)
    assert len(host.asked) == 2, "what is at a URL may change"
    assert scorers["mean"].image.batches == [[10.0]]


async def test_an_image_that_serves_many_items_and_scorers_is_fetched_once(pipeline, host, observer) -> None:
    items = [Item(str(index), "a", "abc") for index in range(5)]
    await pipeline.score(ScoreRequest([*items, Item("5", image(host, "10.png"), "x")], {"a": image(host, "10.png")}))
    assert len(host.asked) == 1
    assert observer.stages.count("fetch") == 1


async def test_only_images_that_a_scorer_reads_are_fetched(pipeline, host) -> None:
    items = [Item("0", image(host, "10.png"), "x" * 21), Item("1", image(host, "20.png"), "abc")]
    await pipeline.score(ScoreRequest(items, {"unused": image(host, "30.png")}))
    assert [head.split()[1] for head in host.asked] == [b"/20.png"]


async def test_filter_fetches_once_for_all_scorers(pipeline, host) -> None:
    policy = [Threshold("mean", min=1.0), Threshold("product", min=1.0)]
    reply_ = await filter_items(pipeline, FilterRequest(policy, [Item("0", image(host, "10.png"), "abc")]))
    assert isinstance(reply_.results[0], ItemVerdict)
    assert reply_.results[0].verdict == "accept"
    assert len(host.asked) == 1


async def test_rank_and_embed_take_urls(pipeline, host) -> None:
    images = [image(host, "10.png"), image(host, "none"), image(host, "30.png")]
    ranked = await rank(pipeline, RankRequest(images, ["abc"]))
    assert [place.index for place in ranked.ranking] == [2, 0]
    assert isinstance(ranked.errors[1], UrlUnreachableError)
    embedded = await embed(pipeline, EmbedRequest(images=images[:2]))
    assert isinstance(embedded.vectors[1], UrlUnreachableError)


async def test_the_request_s_deadline_ends_its_fetches(pipeline, host, in_flight) -> None:
    items = [Item("0", image(host, "hang"), "abc"), Item("1", image(host, "10.png"), "abc")]
    request = ScoreRequest(items, timeout_ms=300)
    with pytest.raises(DeadlineExceededError) as passed:
        await pipeline.score(request)
    release(passed.value)
    await host.ended.wait()
    assert in_flight.num_bytes == 0


async def test_where_urls_are_off_nothing_is_fetched(open_pipeline, host) -> None:
    pipeline = await open_pipeline()
    for url in (image(host, "10.png"), UrlImage("file:///etc/passwd"), UrlImage("")):
        (result,) = (await pipeline.score(ScoreRequest([Item("0", url, "abc")]))).results
        assert isinstance(result.error, UrlSourceRefusedError)
        assert result.error.detail == "Images by URL are not fetched; send the bytes."
    assert host.num_connections == 0


async def test_an_error_says_nothing_of_where_a_redirect_led(
    open_host, open_pipeline, names, ca_file, in_flight
) -> None:
    host = await open_host(redirect("https://169.254.169.254/latest/meta-data/"))
    pipeline = await open_pipeline(fetcher=make_fetcher(names, ca_file, [host], in_flight))
    (result,) = (await pipeline.score(ScoreRequest([Item("0", image(host, ""), "abc")]))).results
    assert "169" not in result.error.detail
    assert "meta" not in result.error.detail
