"""The four clients against the real edges, on real sockets; behind the edges a service that only counts bytes."""

import numpy as np
import pytest

from plumbline_client import (
    AsyncClient,
    Batch,
    CapacityError,
    Client,
    Combination,
    DeadlineExceededError,
    ForbiddenError,
    GrpcClient,
    Image,
    InvalidRequestError,
    Item,
    ProblemError,
    Question,
    RateLimitedError,
    Term,
    Threshold,
    UnauthenticatedError,
)
from plumbline_models.core.questions import Question as AskedQuestion
from plumbline_serve import messages
from tests.clients.counting_service import KEY, PIXELS


async def test_every_byte_and_every_bit_gets_through(ask, running) -> None:
    content = b"\x00\r\n--\xff shared"
    shared = Image.data(content)
    items = [Item(shared, "a", id="x"), Item(Image.raw(PIXELS), "bb"), Item(shared), Item(Image.data(b"broken"), "c")]
    response = await ask(
        "score",
        items,
        scorers=["weight", "length"],
        request_id="mine",
        timeout_ms=60_000,
        priority="batch",
        deterministic=True,
    )
    assert response.request_id == "mine"
    assert [result.id for result in response.results] == ["x", "1", "2", "3"]
    first, second, third, fourth = response.results
    heavy = sum(content) / 7
    assert first.value("weight") == third.value("weight") == heavy
    assert first.scores["weight"].cosine == heavy / 3
    assert first.scores["weight"].model_extra == {"depth": {"near": heavy}}
    assert second.value("weight") == int(PIXELS.sum()) / 7 + 2003
    assert (first.value("length"), second.value("length")) == (1 / 7, 2 / 7)
    assert third.scores["length"].error.code == "missing_text"
    assert fourth.error.code == "image_undecodable"
    assert fourth.error.status == 422
    assert fourth.error.title == "Undecodable image"
    assert response.timing_ms.compute == 1 / 3
    request = running.service.requests[-1]
    assert len(request.images) == 1
    assert 0 < request.timeout_ms <= 60_000
    assert request.priority == "batch"
    assert request.deterministic is True


async def test_what_an_item_is_compared_with_gets_through(ask, running) -> None:
    image, other = Image.data(b"a"), Image.data(b"b")
    items = [
        Item(image, "a", references=["one", "two"], reference_image=other),
        Item(image, reference_image=other, phrases=iter(["a fox"])),
        Item(image, reference_image=Image.data(b"c"), questions=["q", Question("r", "no", "t", (0,))]),
    ]
    await ask("score", items)
    request = running.service.requests[-1]
    first, second, third = request.items
    assert third.questions == (AskedQuestion("q"), AskedQuestion("r", "no", "t", (0,)))
    assert (tuple(first.references), tuple(second.phrases)) == (("one", "two"), ("a fox",))
    assert request.images[first.reference_image] == request.images[second.reference_image]
    assert request.images[first.reference_image] == messages.EncodedImage(b"b")
    assert third.reference_image == messages.EncodedImage(b"c")
    assert len(request.images) == 2


async def test_frames_get_through(ask, running) -> None:
    again, other = Image.data(b"a"), Image.data(b"b")
    await ask("score", [Item(text="x", frames=iter([again, other, again]), pool="clip4clip"), Item(frames=[other])])
    request = running.service.requests[-1]
    first, second = request.items
    shared = {key: image.data for key, image in request.images.items()}
    assert [shared[frame] for frame in first.frames] == [b"a", b"b", b"a"]
    assert (first.pool, second.pool, first.image) == ("clip4clip", "mean", None)
    assert [shared[frame] for frame in second.frames] == [b"b"]
    await ask("score", [Item(frames=[other])])
    (alone,) = running.service.requests[-1].items
    assert list(alone.frames) == [messages.EncodedImage(b"b")]


async def test_combinations_get_through(ask, running) -> None:
    combine = {"r": Combination("harmonic", iter([Term("weight", min=0, max=1), Term("length", 2.0, 0, 9)]))}
    image = Image.data(b"a")
    await ask("score", [Item(image)], combine=combine)
    await ask("filter", [Item(image)], [Threshold("r", min=0)], combine=combine)
    await ask("rank", "a", [image], scorer="r", combine=combine)
    terms = [messages.Term("weight", min=0, max=1), messages.Term("length", 2.0, 0, 9)]
    expected = {"r": messages.Combination("harmonic", terms)}
    assert [request.combine for request in running.service.requests[-3:]] == [expected] * 3


async def test_filter_rank_embed_and_the_lists_are_understood(ask, running) -> None:
    light, heavy = Image.data(b"\x01"), Image.data(b"\xff")
    verdicts = await ask("filter", [Item(light), Item(heavy)], [Threshold("weight", min=1)])
    assert [result.is_accepted for result in verdicts.results] == [False, True]
    assert verdicts.results[0].failed == ("weight",)
    ranking = await ask("rank", "a", [light, Image.data(b"broken"), heavy], scorer="weight")
    assert [place.index for place in ranking.ranking] == [2, 0]
    assert [(failure.index, failure.error.code) for failure in ranking.errors] == [(1, "image_undecodable")]
    texts = await ask("rank", light, ["a", "ccc", "bb"], top_k=2)
    assert [place.index for place in texts.ranking] == [1, 2]
    embedded = await ask("embed", ["a", "bb"])
    assert [vector.floats().tolist() for vector in embedded.vectors] == [[np.float32(n / 7), 1.0] for n in (1, 2)]
    assert (embedded.encoder, embedded.dim) == ("counting/text", 2)
    (scorer,) = await ask("scorers")
    assert (scorer.id, scorer.low, scorer.high, scorer.needs_text) == ("weight", 0.0, None, False)
    assert scorer.needs == ("image",)
    running.service.learnt["mine"] = None
    try:
        assert [each.id for each in await ask("scorers")] == ["weight", "classifier:mine"]
    finally:
        running.service.learnt.clear()
    (encoder,) = await ask("models")
    assert (encoder.key, encoder.notes) == ("counting", {"note": "n"})
    assert await ask("ready", change={"api_key": None}) is True


async def test_a_selection_gets_through_and_is_understood(ask, running) -> None:
    images = [Image.data(b"a"), Image.url("http://x/y"), Image.data(b"abc")]
    combine = {"r": Combination("sum", [Term("weight")])}
    options = {"correlation": 0.5, "correlation_interval": (0.4, 0.6), "temperature": 0.1, "seed": 7}
    chosen = await ask(
        "select", "a fox", images, scorer="r", combine=combine, priority="batch", deterministic=True, **options
    )
    assert (chosen.index, chosen.scorer, chosen.values) == (2, "r", (1 / 3, None, 1.0))
    assert (chosen.certified_gain, chosen.max_certified_n, chosen.overoptimised) == (0.5 / 3, 2, False)
    assert chosen.probabilities == (1 / 3, None, 1 / 3)
    assert [(failure.index, failure.error.code) for failure in chosen.errors] == [(1, "image_undecodable")]
    request = running.service.selected[-1]
    assert (request.text, len(request.images), request.priority) == ("a fox", 3, "batch")
    assert request.deterministic is True
    assert request.combine == {"r": messages.Combination("sum", [messages.Term("weight")])}
    found = (request.correlation, tuple(request.correlation_interval), request.temperature, request.seed)
    assert found == (0.5, (0.4, 0.6), 0.1, 7)
    plain = await ask("select", "a fox", [Image.data(b"")])
    assert (plain.certified_gain, plain.max_certified_n, plain.overoptimised) == (None, None, None)
    assert (plain.values, plain.probabilities, plain.errors) == ((0.0,), (), ())


async def test_a_calibration_is_named_in_a_condition_and_an_item_names_its_group(ask, running) -> None:
    await ask("filter", [Item(Image.data(b"a"), group="g")], [Threshold("weight", calibration="launch")])
    request = running.service.requests[-1]
    assert request.policy == [messages.Threshold("weight", calibration="launch")]
    assert request.items[0].group == "g"


async def test_a_stale_calibration_and_what_guards_say_get_through(ask) -> None:
    item = Item(Image.data(b"a"), "a fox")
    for name in ("stale", "fresh"):
        reply = await ask("filter", [item], [Threshold("weight", calibration=name)])
        assert reply.calibration_stale == (name == "stale")
    assert (await ask("score", [item])).results[0].guards is None
    (plain,) = (await ask("score", [item], guards={})).results
    assert plain.guards.fooling_suspect is True
    assert (plain.guards.ood_score, plain.guards.adversarial_suspect) == (1 / 3, None)
    assert (plain.guards.policy, plain.guards.calibration_stale, plain.guards.explained) == ("g1-0", True, {})
    (told,) = (await ask("score", [item], guards={"views": True, "explain": True})).results
    assert told.guards.explained == {"drop": 1 / 3}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_classifiers_references_and_drift_are_of_rest(ask, running) -> None:
    key, shown = {"api_key": "deciding-key"}, {"yes": [b"a", b"b"], "no": [b"c", b"d"]}
    prompts = {"yes": "a fox", "no": "none"}
    with pytest.raises(ForbiddenError, match="decide"):
        await ask("classify", "fox", shown, prompts)
    made = await ask("classify", "fox", shown, prompts, change=key)
    assert (made.classes, made.num_images, made.accuracy_cv) == (("yes", "no"), 4, 1 / 3)
    assert [each.name for each in await ask("classifiers")] == ["fox"]
    with pytest.raises(ForbiddenError, match="decide"):
        await ask("delete_classifier", "fox")
    await ask("delete_classifier", "fox", change=key)
    assert await ask("classifiers") == ()
    with pytest.raises(ForbiddenError, match="decide"):
        await ask("refer", "weight")
    assert (await ask("refer", "weight", change=key)).images == ("brightness",)
    assert (await ask("refer", "weight", [0.5] * 100, change=key)).n == 100
    assert [each.scorer for each in await ask("references")] == ["weight"]
    await ask("delete_reference", "weight", change=key)
    found = await ask("drift")
    assert (found.scorers["weight"].psi, found.scorers["weight"].severity) == (1 / 3, "high")
    assert found.scorers["weight"].images["edges"].p_value == 1 / 3
    assert (found.scorers["few"].psi, found.scorers["few"].m) == (None, 7)
    assert found.errors["gone"].code == "bound_to_other"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_calibrations_are_kept_listed_and_deleted_over_rest(ask, running) -> None:
    key = {"api_key": "deciding-key"}
    labelled = ("weight", [0.1, 1 / 3], [True, False])
    with pytest.raises(ForbiddenError, match="decide"):
        await ask("calibrate", "launch", *labelled, alpha=0.05, direction="keep_good")
    options = {"groups": ["x", "y"], "confidence": 0.9}
    made = await ask("calibrate", "launch", *labelled, alpha=0.05, direction="keep_good", change=key, **options)
    request = running.service.calibrated[-1]
    assert (request.scores, request.labels, request.groups) == ([0.1, 1 / 3], [True, False], ["x", "y"])
    assert (made.name, made.threshold, made.k, made.detail, made.confidence) == ("launch", None, 20, "Too few.", 0.9)
    assert (made.bound_to.weights, made.bound_to.conventions) == ("00", {"scale": "2"})
    assert made.groups["y"].threshold == 1 / 3
    assert [each.name for each in await ask("calibrations")] == ["launch"]
    with pytest.raises(ForbiddenError, match="decide"):
        await ask("delete_calibration", "launch")
    await ask("delete_calibration", "launch", change=key)
    with pytest.raises(InvalidRequestError) as unknown:
        await ask("delete_calibration", "launch", change=key)
    assert (unknown.value.code, unknown.value.problem.status) == ("unknown_artefact", 404)
    assert await ask("calibrations") == ()


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_calibration_of_a_combination_brings_it_back(ask, running) -> None:
    combine = {"r": Combination("sum", [Term("weight", min=0, max=1), Term("length", 2.0)])}
    promise = {"alpha": 0.05, "direction": "keep_good", "change": {"api_key": "deciding-key"}}
    made = await ask("calibrate", "reward", None, [0.1], [True], combine=combine, **promise)
    request = running.service.calibrated[-1]
    terms = [messages.Term("weight", min=0, max=1), messages.Term("length", 2.0)]
    assert (request.scorer, request.combine) == (None, {"r": messages.Combination("sum", terms)})
    assert made.scorer == "r"
    assert made.combine == {"r": Combination("sum", [Term("weight", 1.0, 0, 1), Term("length", 2.0)])}
    await ask("filter", [Item(Image.data(b"a"))], [Threshold("r", calibration="reward")], combine=made.combine)
    assert running.service.requests[-1].combine == request.combine
    with pytest.raises(InvalidRequestError, match="either scorer or combine"):
        await ask("calibrate", "reward", "weight", [0.1], [True], combine=combine, **promise)
    await ask("delete_calibration", "reward", change={"api_key": "deciding-key"})


async def test_refusals_are_the_same_over_both_protocols(ask, kind) -> None:
    with pytest.raises(InvalidRequestError, match="no such scorer") as unknown:
        await ask("score", [Item(text="a")], scorers=["unknown"], request_id="mine")
    assert (unknown.value.code, unknown.value.problem.status) == ("unknown_scorer", 422)
    assert unknown.value.request_id == "mine"
    with pytest.raises(InvalidRequestError) as field:
        await ask("filter", [Item(text="a")], [Threshold("weight")])
    assert field.value.code == "invalid_field"
    assert [fault.pointer for fault in field.value.problem.errors] == ["/policy/all/0"]
    with pytest.raises(UnauthenticatedError):
        await ask("score", [Item(text="a")], change={"api_key": "another"})
    with pytest.raises(ForbiddenError) as forbidden:
        await ask("score", [Item(text="a")], change={"api_key": "operator-key"})
    assert forbidden.value.code == "missing_scope"
    poor = {"api_key": f"poor-{kind.__name__.lower()}"}
    await ask("scorers", change=poor)
    with pytest.raises(RateLimitedError) as limited:
        await ask("scorers", change=poor)
    assert limited.value.code == "rate_limited"
    assert 0 < (limited.value.retry_after_ms or 0) <= 2 * 86_400_000
    with pytest.raises(DeadlineExceededError):
        await ask("embed", ["late"])
    with pytest.raises(CapacityError) as busy:
        await ask("embed", ["busy"])
    assert (busy.value.code, busy.value.problem.retry_after_ms) == ("overloaded", 250)


def test_a_stream_is_answered(running) -> None:
    batches = [Batch([Item(Image.data(bytes([index])), "a")]) for index in range(40)]
    batches.append(Batch([Item(text="a")], scorers=["unknown"], correlation_id="bad"))
    with GrpcClient(running.grpc, api_key=KEY) as client:
        replies = {reply.correlation_id: reply for reply in client.score_stream(batches)}
    error = replies.pop("bad").error
    assert isinstance(error, ProblemError)
    assert error.code == "unknown_scorer"
    values = {int(name): reply.unwrap().results[0].value("weight") for name, reply in replies.items()}
    assert values == {index: index / 7 for index in range(40)}
