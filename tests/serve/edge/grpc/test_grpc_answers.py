"""What right calls are answered, over a real socket."""

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from plumbline_models.core.questions import Question
from plumbline_serve.messages import BrokenImage, Combination, EncodedImage, Item, RawImage, Term, UrlImage
from plumbline_wire.v1 import scoring_pb2 as pb

HALLO = b"hallo"
IMAGE = pb.ImageSource(data=HALLO)
RAW = pb.ImageSource(raw=pb.RawImage(data=HALLO, height=1, width=2, channels=4))


def items(*texts: str | None) -> list[pb.Item]:
    return [pb.Item(image=IMAGE, text=text) for text in texts]


def test_score_answers_items_in_order_each_with_its_own_error(edge) -> None:
    wanted = [*items("hi"), pb.Item(id="x", image_key="nowhere"), *items(None)]
    reply, call = edge.rpc.Score.with_call(pb.ScoreRequest(items=wanted), metadata=[("x-request-id", "me")])
    assert reply.request_id == dict(call.trailing_metadata())["x-request-id"] == "me"
    assert [each.id for each in reply.results] == ["0", "x", "2"]
    first, second, third = reply.results
    assert first.scores["sum"].value == 176.0
    worded = first.scores["worded"]
    assert worded.cosine == float(np.float32(0.1))
    word = pb.Word(text="hi", start=0, end=2, attribution=float(np.float32(176) / 7), misaligned=True)
    assert list(worded.words) == [word]
    assert json_format.MessageToDict(worded.details) == {"num_tokens": 5.0, "by_layer": [0.5]}
    assert second.HasField("error")
    assert not second.scores
    assert third.scores["worded"].HasField("error")
    assert not third.scores["sum"].HasField("cosine")
    assert reply.timing_ms == pb.Timing(decode=0.1, queue=0.2, compute=1 / 3, total=2.5)
    edge.notebook.wait_for(("plumbline.v1.Scoring/Score", "grpc", "OK"))


def test_every_source_reaches_the_service_as_what_it_is(edge) -> None:
    wanted = [
        pb.Item(image_key="k"),
        pb.Item(id="", image=RAW, text=""),
        pb.Item(image=pb.ImageSource(url="https://example.com/a.png")),
        pb.Item(image_key="", text="a"),
        pb.Item(),
        pb.Item(references=["x", ""], reference_image_key="k"),
        pb.Item(reference_image=IMAGE, phrases=["y"]),
        pb.Item(questions=[pb.Question(text="q"), pb.Question(text="r", expect=pb.EXPECT_NO, tag="", depends_on=[0])]),
    ]
    edge.rpc.Score(
        pb.ScoreRequest(
            items=wanted,
            images={"k": IMAGE},
            scorers=["sum"],
            timeout_ms=60_000,
            priority=pb.PRIORITY_BATCH,
            deterministic=True,
        )
    )
    (received,) = edge.service.received
    assert received.images == {"k": EncodedImage(HALLO)}
    assert received.items == [
        Item("0", "k", None),
        Item("", RawImage(HALLO, height=1, width=2, channels=4), ""),
        Item("2", UrlImage("https://example.com/a.png"), None),
        Item("3", "", "a"),
        Item("4", None, None),
        Item("5", None, None, references=("x", ""), reference_image="k"),
        Item("6", None, None, reference_image=EncodedImage(HALLO), phrases=("y",)),
        Item("7", None, None, questions=(Question("q"), Question("r", "no", "", (0,)))),
    ]
    assert received.scorers == ["sum"]
    assert 0 < received.timeout_ms <= 60_000
    assert received.priority == "batch"
    assert received.deterministic is True


def test_combinations_reach_the_service(edge) -> None:
    terms = [pb.Term(scorer="a", min=0, max=2), pb.Term(scorer="b", weight=-1)]
    asked: dict[str, Any] = {"combine": {"r": pb.Combination(method=pb.METHOD_SUM, terms=terms)}}
    edge.rpc.Score(pb.ScoreRequest(items=items("a"), **asked))
    policy = pb.Policy(all=[pb.Threshold(scorer="r", min=0)])
    edge.rpc.Filter(pb.FilterRequest(items=items("a"), policy=policy, **asked))
    edge.rpc.Rank(pb.RankRequest(text="a", images=[IMAGE], scorer="r", **asked))
    expected = {"r": Combination("sum", [Term("a", min=0, max=2), Term("b", weight=-1)])}
    assert [request.combine for request in edge.service.received] == [expected] * 3


def test_no_scorers_means_those_that_the_items_allow(edge) -> None:
    edge.rpc.Score(pb.ScoreRequest(items=items("a")))
    assert edge.service.received[0].scorers is None
    assert edge.service.received[0].timeout_ms is None
    assert edge.service.received[0].priority == "normal"
    assert edge.service.received[0].deterministic is False


def test_filter_answers_accept_reject_or_neither(edge) -> None:
    policy = pb.Policy(all=[pb.Threshold(scorer="sum", min=100.0)])
    wanted = [*items("a"), pb.Item(image=pb.ImageSource(data=b"")), pb.Item(image_key="nowhere")]
    reply = edge.rpc.Filter(pb.FilterRequest(policy=policy, items=wanted, explain=True))
    assert [(each.verdict, list(each.failed), each.HasField("error")) for each in reply.results] == [
        (pb.VERDICT_ACCEPT, [], False),
        (pb.VERDICT_REJECT, ["sum"], False),
        (pb.VERDICT_UNSPECIFIED, [], True),
    ]
    received = edge.service.received[0]
    assert (received.explain, received.policy[0].min, received.policy[0].max) == (True, 100.0, None)


def test_rank_orders_and_names_what_could_not_be_scored(edge) -> None:
    images = [pb.ImageSource(data=b""), pb.ImageSource(url="x"), IMAGE]
    reply = edge.rpc.Rank(pb.RankRequest(text="hi", images=images, top_k=2, scorer="sum"))
    assert [(each.index, each.value) for each in reply.ranking] == [(2, 176.0), (0, 0.0)]
    assert [each.index for each in reply.errors] == [1]
    assert reply.scorer == "sum"
    received = edge.service.received[0]
    assert (received.texts, received.top_k, received.scorer) == (["hi"], 2, "sum")


def test_rank_orders_texts_for_an_image(edge) -> None:
    edge.rpc.Rank(pb.RankRequest(image=IMAGE, texts=["a", "b"]))
    received = edge.service.received[0]
    assert (received.images, received.texts, received.top_k) == ([EncodedImage(HALLO)], ["a", "b"], None)


def test_embed_answers_little_endian_floats_with_errors_in_place(edge) -> None:
    reply = edge.rpc.Embed(pb.EmbedRequest(images=[pb.ImageSource(data=b"hallo!"), pb.ImageSource(url="x")]))
    vector, failed = reply.vectors
    assert np.frombuffer(vector.float32_le, "<f4").tolist() == [float(np.float32(sum(b"hallo!") / 3))] * 3
    assert failed.WhichOneof("result") == "error"
    assert (reply.encoder, reply.dim) == ("mini/image", 3)


def test_the_lists_say_what_is_loaded(edge) -> None:
    scorer, *_ = edge.rpc.ListScorers(pb.ListScorersRequest()).scorers  # then classifiers that other tests leave
    assert (scorer.id, scorer.low, scorer.HasField("high"), scorer.needs_text) == ("sum", 0.0, False, False)
    (encoder,) = edge.rpc.ListModels(pb.ListModelsRequest()).models
    assert encoder.key in scorer.encoders
    assert dict(encoder.notes) == {"context": "77"}


def test_the_callers_deadline_reaches_the_service(edge) -> None:
    edge.rpc.Score(pb.ScoreRequest(items=items("a"), timeout_ms=500_000), timeout=60)
    left = edge.service.received[0].timeout_ms
    assert 0 < left < 70_000  # gRPC rounds a timeout up to what its header can say


def test_a_caller_that_gives_up_stops_the_work(edge) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        edge.rpc.Score(pb.ScoreRequest(items=items("hang")), timeout=1.0)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert edge.service.hanging.acquire(timeout=30)
    assert edge.service.cancelled.acquire(timeout=30)
    edge.notebook.wait_for(("plumbline.v1.Scoring/Score", "grpc", "CANCELLED"))


def test_an_unset_source_of_a_named_image_is_the_requests_fault(edge) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        edge.rpc.Score(pb.ScoreRequest(items=[pb.Item(image_key="k")], images={"k": pb.ImageSource()}))
    assert "/images/k must have exactly one of" in caught.value.details()
    assert not any(isinstance(each, BrokenImage) for each in edge.service.received)
