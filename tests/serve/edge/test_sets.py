"""What is said about sets, over real encoders: the same values whatever a set comes as, over both wires."""

import base64
import hashlib
import io
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from plumbline_serve.settings import Limits, Settings
from plumbline_serve.settings.access import EdgeSettings
from plumbline_wire.v1 import scoring_pb2 as pb

FOREVER: Any = {"timeout_ms": 300_000}
TEXTS = ["a red circle", "a blue square", "a red circle", "a red circle"]


def picture(colour: tuple[int, int, int], seed: int) -> bytes:
    """A PNG of one colour with a stripe."""
    pixels = np.full((48, 48, 3), colour, np.uint8)
    pixels[seed * 8 : seed * 8 + 8] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


FILES = [picture((200, 0, 0), 0), picture((0, 0, 200), 3), picture((200, 0, 0), 0), picture((0, 160, 0), 5)]
SOURCES = [pb.ImageSource(data=each) for each in FILES]
NONE = pb.ListReferenceSetsRequest()


@pytest.fixture
def edge(open_embedded, tmp_path) -> Any:
    return open_embedded(
        Settings(
            scorers={"clipscore": {}},
            cache_dir=tmp_path,
            store=SecretStr(f"sqlite:///{tmp_path}/store.db"),
            limits=Limits(max_items=4),
            edge=EdgeSettings(audits=True),
        )
    )


def values(reply: Any) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    return {name: each for name, each in reply.json().items() if name not in ("timing_ms", "request_id")}


def test_images_embeddings_and_hashes_of_one_set_have_the_same_values(edge) -> None:
    images = [{"b64": base64.b64encode(each).decode()} for each in FILES]
    hashes = [hashlib.sha256(each).hexdigest() for each in FILES]
    options = {"texts": TEXTS, "orders": [1, 2, "inf"], "near_duplicate": 0.9999, **FOREVER}
    unseen = edge.post("/v1/sets/diversity", {"hashes": hashes, **options})
    assert (unseen.status_code, unseen.json()["code"]) == (422, "unknown_image")
    of_images = values(edge.post("/v1/sets/diversity", {"images": images, **options}))
    assert (of_images["n"], of_images["duplicates"], of_images["identical"]) == (4, [[0, 2]], [[0, 2]])
    assert 1 < of_images["vendi"]["inf"] < of_images["vendi"]["2"] < of_images["vendi"]["1"] < 3
    assert of_images["vendi_centred"]["1"] == pytest.approx(2.0, rel=0.2)  # three colours, about their mean
    assert 0 < of_images["mean_pairwise"] < 1
    assert (of_images["sce"]["samples_per_direction"], of_images["sce"]["reliable"]) == (2.0, False)
    assert values(edge.post("/v1/sets/diversity", {"hashes": hashes, **options})) == of_images
    embedded = edge.post("/v1/embed", {"images": images, "encoding": "base64", **FOREVER}).json()
    given = {"embeddings": embedded["vectors"], "encoder": embedded["model"], **options}
    assert values(edge.post("/v1/sets/diversity", given)) == of_images
    numbers = edge.post("/v1/embed", {"images": images, **FOREVER}).json()["vectors"]
    assert values(edge.post("/v1/sets/diversity", given | {"embeddings": numbers})) == of_images
    apart = values(edge.post("/v1/sets/distance", {"a": {"hashes": hashes}, "b": {"embeddings": numbers}, **FOREVER}))
    assert (apart["encoder"], apart["n_a"], apart["n_b"]) == (embedded["model"], 4, 4)
    assert apart["frechet"] == pytest.approx(0.0, abs=1e-9)
    assert apart["frechet_floor"] > 0
    assert apart["mmd_rbf"] < 0  # unbiased: the same pairs, but for those of a member with itself
    rows = edge.rpc.Embed(pb.EmbedRequest(images=SOURCES, **FOREVER)).vectors
    asked: Any = {"texts": TEXTS, "near_duplicate": 0.9999, **FOREVER}
    vectors = [each.float32_le for each in rows]
    forms: Any = ({"images": SOURCES}, {"embeddings": vectors, "encoder": embedded["model"]}, {"hashes": hashes})
    for form in forms:
        found = edge.rpc.Diversity(pb.DiversityRequest(**form, **asked))
        assert (dict(found.vendi), dict(found.vendi_centred)) == (of_images["vendi"], of_images["vendi_centred"])
        assert found.mean_pairwise == of_images["mean_pairwise"]
        assert {field.name: value for field, value in found.sce.ListFields()} == {
            name: value for name, value in of_images["sce"].items() if value
        }
        assert [list(each.members) for each in found.duplicates] == [list(each.members) for each in found.identical]
        assert list(found.duplicates[0].members) == [0, 2]
    a, b = pb.EncodingSet(hashes=hashes), pb.EncodingSet(embeddings=vectors)
    of_grpc = edge.rpc.Distance(pb.DistanceRequest(a=a, b=b, **FOREVER))
    measures = ("frechet", "frechet_floor", "mmd_polynomial", "mmd_rbf", "encoder", "n_a")
    assert {name: getattr(of_grpc, name) for name in measures} == {name: apart[name] for name in measures}


def test_a_set_kept_over_one_wire_is_compared_with_over_the_other(edge) -> None:
    images = [{"b64": base64.b64encode(each).decode()} for each in FILES]
    kept = edge.rpc.ReferSet(pb.ReferenceSetRequest(name="launch", images=SOURCES[:3], **FOREVER))
    assert (kept.name, kept.n, kept.encoder) == ("launch", 3, edge.rpc.ListReferenceSets(NONE).sets[0].encoder)
    (listed,) = edge.http.get("/v1/sets/references").json()["sets"]
    assert (listed["created"], listed["bound_to"]["weights"]) == (kept.created, kept.bound_to.weights)
    rest = values(edge.post("/v1/sets/distance", {"a": {"images": images}, "reference": "launch", **FOREVER}))
    request = pb.DistanceRequest(a=pb.EncodingSet(images=SOURCES), reference="launch", **FOREVER)
    assert edge.rpc.Distance(request).frechet == rest["frechet"]
    other = pb.ReferenceSetRequest(name="other", images=[*SOURCES[:2], pb.ImageSource(data=b"none")], **FOREVER)
    with pytest.raises(grpc.RpcError) as refused:
        edge.rpc.ReferSet(other)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    edge.rpc.DeleteReferenceSet(pb.DeleteReferenceSetRequest(name="launch"))
    gone = edge.post("/v1/sets/distance", {"a": {"images": images}, "reference": "launch", **FOREVER})
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_artefact")


def test_frames_are_scored_alone_and_together_alike_over_both_wires(edge) -> None:
    images = [{"b64": base64.b64encode(each).decode()} for each in FILES]
    text = TEXTS[0]
    alone = edge.post("/v1/score", {"items": [{"image": image, "text": text} for image in images], **FOREVER}).json()
    expected = [result["scores"]["clipscore"]["value"] for result in alone["results"]]
    items = [{"frames": images, "text": text, "pool": pool} for pool in ("mean", "min", "clip4clip")]
    found = edge.post("/v1/score", {"items": items, **FOREVER}).json()["results"]
    mean, least, whole = (result["scores"]["clipscore"] for result in found)
    assert mean["value"] == pytest.approx(np.mean(expected), rel=1e-12)
    assert mean["frames"] == least["frames"] == whole["frames"]
    assert mean["frames"]["values"] == expected
    assert least["value"] == min(expected) == expected[mean["frames"]["worst"]]
    vectors = edge.post("/v1/embed", {"images": images, **FOREVER}).json()["vectors"]
    caption = edge.post("/v1/embed", {"texts": [text], **FOREVER}).json()["vectors"][0]
    together = np.mean(vectors, axis=0) / np.linalg.norm(np.mean(vectors, axis=0))
    assert whole["cosine"] == pytest.approx(float(together @ np.array(caption)), abs=1e-6)
    assert whole["value"] == pytest.approx(2.5 * whole["cosine"], abs=1e-6)
    frames = [pb.Frame(image=pb.ImageSource(data=each)) for each in FILES[1:]]
    pools = [pb.POOL_UNSPECIFIED, pb.POOL_MIN, pb.POOL_CLIP4CLIP]
    request = pb.ScoreRequest(
        images={"a": pb.ImageSource(data=FILES[0])},
        items=[pb.Item(frames=[pb.Frame(key="a"), *frames], text=text, pool=pool) for pool in pools],
        timeout_ms=FOREVER["timeout_ms"],
    )
    of_grpc = [result.scores["clipscore"] for result in edge.rpc.Score(request).results]
    assert [each.value for each in of_grpc] == [each["value"] for each in (mean, least, whole)]
    assert list(of_grpc[0].details["frames"]["values"]) == expected


def test_members_are_labelled_by_the_nearest_prompt(edge) -> None:
    images = [{"b64": base64.b64encode(each).decode()} for each in (FILES[0], FILES[1], FILES[2])]
    asked: Any = {"groups": ["red", "blue", "green"], "prompts": ["a red square", "a blue square", "a green square"]}
    found = values(edge.post("/v1/sets/audit", {"images": images, **asked, "margin": 0, **FOREVER}))
    of_images = edge.post("/v1/embed", {"images": images, **FOREVER}).json()["vectors"]
    of_prompts = edge.post("/v1/embed", {"texts": asked["prompts"], **FOREVER}).json()["vectors"]
    weights = np.exp(np.array(of_images) @ np.array(of_prompts).T * 100)
    expected = weights / weights.sum(axis=1, keepdims=True)
    assert [each["label"] for each in found["guesses"]] == [asked["groups"][place] for place in expected.argmax(axis=1)]
    assert [each["confidence"] for each in found["guesses"]] == pytest.approx(expected.max(axis=1), rel=1e-3)
    assert (found["n"], found["num_unknown"]) == (3, 0)
    assert found["caution"]
    request = pb.AuditRequest(images=[SOURCES[at] for at in (0, 1, 2)], **asked, margin=0, **FOREVER)
    of_grpc = edge.rpc.Audit(request)
    assert [(each.label, each.confidence) for each in of_grpc.guesses] == [
        (each["label"], each["confidence"]) for each in found["guesses"]
    ]
    assert of_grpc.spread.composite == found["spread"]["composite"]
    strict = values(edge.post("/v1/sets/audit", {"images": images, **asked, "margin": 1, **FOREVER}))
    assert (strict["n"], strict["num_unknown"], strict["spread"]) == (0, 3, None)


def test_a_large_set_is_sent_in_base64_and_is_not_bound_by_the_number_of_items(edge) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 16)).astype("<f4")
    coded = [base64.b64encode(row.tobytes()).decode() for row in rows]
    found = values(edge.post("/v1/sets/diversity", {"embeddings": coded, **FOREVER}))
    assert (found["n"], found["encoder"], found["sce"], found["duplicates"]) == (300, None, None, [])
    assert 14 < found["vendi"]["1"] < 16
    too_many = edge.post("/v1/sets/diversity", {"embeddings": coded * 14, **FOREVER})
    assert (too_many.status_code, too_many.json()["errors"][0]["pointer"]) == (422, "/embeddings")
    images = edge.post("/v1/sets/diversity", {"images": [{"b64": ""}] * 5, **FOREVER})
    assert (images.status_code, images.json()["code"]) == (413, "too_many_items")
    hostile = base64.b64encode(np.array([1.0, np.nan] * 8, "<f4").tobytes()).decode()
    refused = edge.post("/v1/sets/diversity", {"embeddings": [*coded, hostile], **FOREVER})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/embeddings/300")


def test_an_image_that_cannot_be_read_is_left_out_and_named(edge) -> None:
    images = [{"b64": base64.b64encode(each).decode()} for each in (*FILES[:2], b"none")]
    found = edge.post("/v1/sets/diversity", {"images": images, **FOREVER}).json()
    assert (found["n"], [each["index"] for each in found["errors"]]) == (2, [2])
    assert found["errors"][0]["error"]["code"] == "image_undecodable"
    alone = edge.post("/v1/sets/distance", {"a": {"images": images[1:]}, "b": {"images": images[:2]}, **FOREVER})
    assert (alone.status_code, alone.json()["code"]) == (422, "image_undecodable")
