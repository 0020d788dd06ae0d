"""The request path, over small encoders: limits, sharing, per-item errors, deadlines."""

import asyncio
import base64
import threading

import pytest

from plumbline_models.core.errors import (
    DeadlineExceededError,
    ImageUndecodableError,
    InvalidFieldError,
    MissingImageError,
    MissingTextError,
    NoItemsError,
    PlumblineError,
    TextTooLongError,
    TooManyItemsError,
    UnknownImageError,
    UnknownScorerError,
    UrlSourceRefusedError,
)
from plumbline_models.core.protocols import Score
from plumbline_serve.messages import (
    Base64Image,
    BrokenImage,
    EmbedRequest,
    EncodedImage,
    FilterRequest,
    Item,
    ItemFailure,
    ItemScores,
    ItemVerdict,
    RankRequest,
    RawImage,
    ScoreRequest,
    Threshold,
    UrlImage,
)
from plumbline_serve.requests.embedding import embed
from plumbline_serve.requests.filtering import filter_items
from plumbline_serve.requests.ranking import rank
from tests.results import all_of_kind


@pytest.fixture
async def pipeline(open_pipeline):
    return await open_pipeline()


def item(image, text="abc", name="1") -> Item:
    return Item(id=name, image=image, text=text)


async def test_every_scorer_that_the_item_allows_is_the_default(pipeline, png):
    image = EncodedImage(png(10))
    reply = await pipeline.score(ScoreRequest([item(image), item(image, None)]))
    assert [set(result.scores) for result in reply.results] == [{"product", "mean"}, {"mean"}]
    assert reply.results[0].scores["product"] == Score(30.0, {"image": 10.0, "caption": 3.0})


async def test_an_image_that_serves_many_items_is_encoded_once(pipeline, scorers, png):
    table = {"a": EncodedImage(png(10))}
    items = [item("a", "x"), item("a", "yy"), item(EncodedImage(png(10)), "zzz")]
    reply = await pipeline.score(ScoreRequest(items, images=table))
    assert [result.scores["product"].value for result in reply.results] == [10.0, 20.0, 30.0]
    assert scorers["mean"].image.batches == [[10.0]]


async def test_the_same_pixels_score_the_same_however_they_are_sent(pipeline, png):
    raw = bytes([10] * 4 * 4 * 3)
    sources = [EncodedImage(png(10)), Base64Image(base64.b64encode(png(10)).decode()), RawImage(raw, 4, 4)]
    reply = await pipeline.score(ScoreRequest([item(source) for source in sources]))
    assert {result.scores["mean"].value for result in reply.results} == {10.0}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        pytest.param(EncodedImage(b"no image"), ImageUndecodableError, id="not an image"),
        pytest.param(Base64Image("%%%"), ImageUndecodableError, id="not base64"),
        pytest.param(UrlImage("http://127.0.0.1/a.png"), UrlSourceRefusedError, id="url"),
        pytest.param(BrokenImage(UnknownImageError("There is no part 'x'.")), UnknownImageError, id="no such part"),
        pytest.param("nowhere", UnknownImageError, id="not in the table"),
        pytest.param(None, MissingImageError, id="no image"),
    ],
)
async def test_one_bad_image_fails_alone(pipeline, png, source, kind):
    good = item(EncodedImage(png(10)), name="good")
    reply = await pipeline.score(ScoreRequest([good, item(source, name="bad"), good]))
    first, bad, last = reply.results
    assert isinstance(first, ItemScores)
    assert isinstance(last, ItemScores)
    assert isinstance(bad, ItemFailure)
    assert isinstance(bad.error, kind)


async def test_an_item_without_the_text_that_a_scorer_needs_says_so(pipeline, png):
    image = EncodedImage(png(10))
    reply = await pipeline.score(ScoreRequest([item(image, None)], scorers=["product"]))
    assert isinstance(reply.results[0].error, MissingTextError)
    both = await pipeline.score(ScoreRequest([item(image, None)], scorers=["product", "mean"]))
    assert isinstance(both.results[0].scores["product"], MissingTextError)
    assert both.results[0].scores["mean"].value == 10.0


async def test_a_scorer_that_fails_for_an_item_leaves_the_others(pipeline, png):
    reply = await pipeline.score(ScoreRequest([item(EncodedImage(png(10)), "unlucky")]))
    assert isinstance(reply.results[0].scores["product"], PlumblineError)
    assert reply.results[0].scores["mean"].value == 10.0


async def test_a_text_that_is_too_long_fails_alone(pipeline, png):
    image = EncodedImage(png(10))
    reply = await pipeline.score(ScoreRequest([item(image, "x" * 21), item(image)]))
    assert isinstance(reply.results[0].error, TextTooLongError)
    assert isinstance(reply.results[1], ItemScores)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        pytest.param(ScoreRequest([]), NoItemsError, id="no items"),
        pytest.param(ScoreRequest([item(None)] * 11), TooManyItemsError, id="too many items"),
        pytest.param(ScoreRequest([item(None)], scorers=["vibes"]), UnknownScorerError, id="unknown scorer"),
        pytest.param(ScoreRequest([item(None)], scorers=[]), InvalidFieldError, id="empty scorers"),
    ],
)
async def test_a_request_that_is_wrong_as_a_whole_is_refused(pipeline, request_, kind):
    with pytest.raises(kind):
        await pipeline.score(request_)


async def test_a_deadline_ends_the_request_and_drops_its_work(pipeline, scorers, png, observer):
    encoder = scorers["mean"].image
    encoder.gate = threading.Event()
    ask = asyncio.create_task(pipeline.score(ScoreRequest([item(EncodedImage(png(1)))], scorers=["mean"])))
    request = ScoreRequest([item(EncodedImage(png(10)))], scorers=["mean"], timeout_ms=50)
    with pytest.raises(DeadlineExceededError):
        await pipeline.score(request)
    encoder.gate.set()
    ask.cancel()
    assert "request" in observer.expired_stages


@pytest.mark.parametrize("asked", [["product", "mean"], ["mean", "product"], None])
async def test_scores_stand_in_the_order_of_the_scorers_also_where_one_lacks_something(pipeline, png, asked):
    items = [item(EncodedImage(png(10)), text=None), item(EncodedImage(png(10)))]
    reply = await pipeline.score(ScoreRequest(items, scorers=asked))
    order = asked or list(pipeline.scorers)
    assert [list(result.scores) for result in all_of_kind(ItemScores, reply.results)] == [
        [name for name in order if name == "mean" or asked],
        order,
    ]


@pytest.mark.parametrize(("stage", "counted"), [("decode", ["decode"]), ("queue", [])])
async def test_a_deadline_that_passes_in_a_stage_counts_there(pipeline, observer, stage, counted):
    with pytest.raises(DeadlineExceededError):
        async with pipeline.session(ScoreRequest([], timeout_ms=60_000)) as session:
            raise session.context.deadline.error(stage)
    assert observer.expired_stages == counted  # in a queue each input is counted by it


async def test_filter_runs_the_cheapest_scorer_first_and_stops_at_the_first_rejection(pipeline, scorers, png):
    items = [item(EncodedImage(png(10)), name="dark"), item(EncodedImage(png(100)), name="light")]
    policy = [Threshold("product", min=1.0), Threshold("mean", min=50.0)]
    reply = await filter_items(pipeline, FilterRequest(policy, items))
    assert [(r.verdict, list(r.failed), set(r.scores)) for r in all_of_kind(ItemVerdict, reply.results)] == [
        ("reject", ["mean"], {"mean"}),
        ("accept", [], {"mean", "product"}),
    ]
    assert scorers["product"].pair.batches == [[300.0]]


async def test_filter_explains_every_condition_when_asked(pipeline, png):
    policy = [Threshold("product", max=1.0), Threshold("mean", min=50.0)]
    reply = await filter_items(pipeline, FilterRequest(policy, [item(EncodedImage(png(10)))], explain=True))
    [verdict] = all_of_kind(ItemVerdict, reply.results)
    assert set(verdict.failed) == {"product", "mean"}


@pytest.mark.parametrize("text", ["", " \n", "...!", "a."])
async def test_filter_rejects_a_text_with_too_few_words_and_says_so(pipeline, png, text: str):
    items = [item(EncodedImage(png(10)), text, "1"), item(EncodedImage(png(10)), "two words", "2")]
    policy = [Threshold("product", min=0.0, min_words=2), Threshold("mean", min=0.0)]
    for explain in (False, True):
        reply = await filter_items(pipeline, FilterRequest(policy, items, explain=explain))
        first, second = all_of_kind(ItemVerdict, reply.results)
        assert (first.verdict, list(first.failed)) == ("reject", ["product"])
        assert first.reasons["product"].endswith("words; at least 2 are asked for.")
        assert set(first.scores) == ({"product", "mean"} if explain else set())
        assert (second.verdict, second.reasons) == ("accept", {})


async def test_fewer_words_than_asked_for_do_not_hide_that_an_item_cannot_be_judged(pipeline, png):
    policy = [Threshold("product", min=0.0, min_words=1)]
    items = [item(EncodedImage(png(10)), None), item(None, "")]
    results = (await filter_items(pipeline, FilterRequest(policy, items))).results
    assert [type(each.error) for each in all_of_kind(ItemFailure, results)] == [MissingTextError, MissingImageError]
    reply = await filter_items(pipeline, FilterRequest([Threshold("mean", min=0, min_words=1)], items[:1]))
    [needless] = all_of_kind(ItemVerdict, reply.results)
    assert needless.verdict == "reject"


async def test_what_is_rejected_stays_rejected_where_a_later_scorer_cannot_explain(pipeline, png, observer):
    items = [item(EncodedImage(png(value)), "unlucky", name) for value, name in ((10, "dark"), (100, "light"))]
    policy = [Threshold("mean", min=50.0), Threshold("product", min=1.0)]
    dark, light = (await filter_items(pipeline, FilterRequest(policy, items, explain=True))).results
    assert isinstance(dark, ItemVerdict)
    assert (dark.verdict, list(dark.failed)) == ("reject", ["mean"])
    assert dark.scores["mean"] == Score(10.0)
    assert isinstance(dark.scores["product"], PlumblineError)
    assert isinstance(light, ItemFailure)  # nothing speaks against it, but it was not judged to the end
    assert len(observer.failures) == 1


async def test_filter_never_accepts_what_it_could_not_judge(pipeline):
    reply = await filter_items(pipeline, FilterRequest([Threshold("mean", min=0)], [item(EncodedImage(b"?"))]))
    assert isinstance(reply.results[0], ItemFailure)


@pytest.mark.parametrize(
    "policy", [pytest.param([], id="empty"), pytest.param([Threshold("mean")], id="without bounds")]
)
async def test_a_policy_that_says_nothing_is_refused(pipeline, policy):
    with pytest.raises(InvalidFieldError):
        await filter_items(pipeline, FilterRequest(policy, [item(None)]))


async def test_rank_puts_the_best_first_and_breaks_ties_by_index(pipeline, png):
    images = [EncodedImage(png(v)) for v in (10, 30, 20, 30)]
    reply = await rank(pipeline, RankRequest(images=images, texts=["ab"], top_k=3))
    assert [(place.index, place.value) for place in reply.ranking] == [(1, 60.0), (3, 60.0), (2, 40.0)]


async def test_rank_orders_texts_for_an_image_and_reports_what_failed(pipeline, png):
    reply = await rank(pipeline, RankRequest(images=[EncodedImage(png(2))], texts=["a", "unlucky", "ccc"]))
    assert [place.index for place in reply.ranking] == [2, 0]
    assert set(reply.errors) == {1}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        pytest.param(RankRequest(images=[], texts=["a"]), NoItemsError, id="no images"),
        pytest.param(RankRequest(images=[UrlImage("u")] * 2, texts=["a", "b"]), InvalidFieldError, id="many of both"),
        pytest.param(RankRequest([UrlImage("u")], ["a"], scorer="mean"), InvalidFieldError, id="scorer without text"),
    ],
)
async def test_a_ranking_that_makes_no_sense_is_refused(pipeline, request_, kind):
    with pytest.raises(kind):
        await rank(pipeline, request_)


async def test_a_long_request_is_encoded_while_its_last_images_are_decoded(pipeline, scorers, png):
    encoder = scorers["mean"].image
    encoder.awaits_a_batch = 99.0
    images = [EncodedImage(png(value)) for value in range(100)]
    async with pipeline.session(EmbedRequest()) as session:
        await session.open(images)
        encodings = await session.image_encodings(encoder, images)
    assert [encodings[image] for image in images] == [float(value) for value in range(100)]


async def test_embed_answers_vectors_or_errors_in_order(pipeline, png):
    reply = await embed(pipeline, EmbedRequest(texts=["a", "x" * 21, "ccc"]))
    assert reply.vectors[0] == 1.0  # of unit length, whatever the text
    assert isinstance(reply.vectors[1], TextTooLongError)
    images = await embed(pipeline, EmbedRequest(images=[EncodedImage(png(7)), EncodedImage(b"")]))
    assert images.vectors[0] == 1.0
    assert isinstance(images.vectors[1], ImageUndecodableError)


async def test_metrics_hear_of_every_score_and_failure(pipeline, png, observer):
    await pipeline.score(ScoreRequest([item(EncodedImage(png(1)), "unlucky"), item(EncodedImage(b"?"))]))
    assert sorted(name for name, _ in observer.scores) == ["mean", "mean", "product", "product"]
    assert [error.code for error in observer.failures] == ["image_undecodable"]
    assert {"decode", "fit"} <= set(observer.stages)


HALF = "\ud83d"  # of an emoji that was cut in two


async def test_half_an_emoji_fails_its_item_and_not_the_batch(pipeline, png):
    images = [EncodedImage(png(10)), EncodedImage(png(20))]
    items = [item(images[0], HALF, "1"), item(images[1], "abc", "2")]
    scored = await pipeline.score(ScoreRequest(items))
    judged = await filter_items(pipeline, FilterRequest([Threshold("product", min=0.0)], items))
    for results in (scored.results, judged.results):
        failure, result = results
        assert isinstance(failure, ItemFailure)
        assert "surrogate" in failure.error.detail
        assert not isinstance(result, ItemFailure)
        [value] = (each.value for name, each in result.scores.items() if name == "product" and isinstance(each, Score))
        assert value == 60.0
    ranked = await rank(pipeline, RankRequest(images[:1], ["ab", HALF]))
    assert [place.index for place in ranked.ranking] == [0]
    assert isinstance(ranked.errors[1], InvalidFieldError)
    embedded = await embed(pipeline, EmbedRequest(texts=[HALF, "abc"]))
    assert isinstance(embedded.vectors[0], InvalidFieldError)
    assert embedded.vectors[1] == 1.0
