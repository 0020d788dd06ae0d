"""Audits on the request path: who is labelled by whom, what is refused, and that they are off unless switched on."""

from typing import Any

import pytest
from pydantic import SecretStr

from plumbline_models.core.errors import (
    AccessError,
    InvalidFieldError,
    NoItemsError,
    PlumblineError,
    TooManyItemsError,
    UnknownScorerError,
)
from plumbline_serve.assembly import assembled
from plumbline_serve.messages import EncodedImage
from plumbline_serve.messages.audits import AuditRequest, Elements
from plumbline_serve.requests.audits import CAUTION, audit
from plumbline_serve.settings import Settings
from plumbline_serve.settings.access import EdgeSettings

GROUPS = ("a", "b", "c")


@pytest.fixture
async def pipeline(open_pipeline):
    pipeline = await open_pipeline()
    pipeline.checks.allows_audits = True
    return pipeline


async def test_audits_are_off_unless_they_are_switched_on(open_pipeline):
    with pytest.raises(AccessError):
        await audit(await open_pipeline(), AuditRequest(groups=GROUPS, labels=["a"]))


async def test_labels_of_the_caller_need_no_set(pipeline, scorers):
    request = AuditRequest(groups=GROUPS, labels=["a", "a", None, "b", "a"], pair=["a", "b"], association=0.5)
    reply = await audit(pipeline, request)
    assert reply.caution == CAUTION
    assert (reply.n, reply.num_unknown, reply.absent, reply.encoder) == (4, 1, ["c"], None)
    assert [(each.name, each.count, each.share) for each in reply.groups] == [
        ("a", 3, 0.75),
        ("b", 1, 0.25),
        ("c", 0, 0),
    ]
    assert reply.spread is not None
    assert [reply.spread.parity_gap, reply.spread.bias_amplification] == pytest.approx([0.5, 5 / 6])
    assert reply.groups[2].skew is None
    assert reply.max_skew == reply.groups[0].skew
    low, high = reply.intervals["parity_gap"]
    assert 0 <= low < 0.5 < high <= 1
    assert scorers["mean"].image.batches == []


async def test_the_programs_way_counts_who_was_seen(pipeline):
    labels = ["a", "a", None, "b", "a"]
    reply = await audit(pipeline, AuditRequest(groups=GROUPS, labels=labels, pair=["a", "z"], compat="official"))
    assert [(each.name, each.count) for each in reply.groups] == [("a", 3), ("unknown", 1), ("b", 1)]
    assert reply.spread is not None
    assert [reply.n, reply.num_unknown, reply.spread.parity_gap] == pytest.approx([5, 0, 0.6])


async def test_a_set_without_any_label_has_no_values(pipeline):
    reply = await audit(pipeline, AuditRequest(groups=GROUPS, labels=[None, None]))
    assert (reply.n, reply.num_unknown, reply.spread, reply.max_skew, reply.intervals) == (0, 2, None, None, {})


async def test_members_without_labels_get_that_of_the_nearest_prompt_or_none(pipeline, png):
    embeddings = [[1.0], [-1.0], [2.0]]  # texts of one dimension all point the same way
    request = AuditRequest(embeddings=embeddings, groups=GROUPS[:2], prompts=["x", "yy"], encoder="theirs")
    reply = await audit(pipeline, request)
    assert [(each.label, each.confidence) for each in reply.guesses] == [(None, 0.5)] * 3
    assert (reply.n, reply.num_unknown, reply.encoder) == (0, 3, "theirs")
    images = [EncodedImage(png(10)), EncodedImage(b"none")]
    reply = await audit(pipeline, AuditRequest(images, groups=GROUPS[:2], prompts=["x", "yy"], margin=0.0))
    assert [each.label for each in reply.guesses] == ["a"]
    assert (list(reply.errors), reply.n) == ([1], 1)


def refused(**named) -> AuditRequest:
    return AuditRequest(**{"groups": GROUPS, "labels": ["a"], **named})


@pytest.mark.parametrize(
    ("request_", "kind", "pointer"),
    [
        pytest.param(refused(groups=["a"]), InvalidFieldError, "/groups", id="one group"),
        pytest.param(refused(groups=["a", "a"]), InvalidFieldError, "/groups", id="a group twice"),
        pytest.param(refused(labels=["a", "d"]), InvalidFieldError, "/labels/1", id="a label of no group"),
        pytest.param(refused(labels=None), InvalidFieldError, "/labels", id="neither labels nor prompts"),
        pytest.param(refused(prompts=["x"] * 3), InvalidFieldError, "/labels", id="labels and prompts"),
        pytest.param(refused(labels=None, prompts=["x"]), InvalidFieldError, "/prompts", id="too few prompts"),
        pytest.param(refused(labels=None, prompts=["x"] * 3), NoItemsError, None, id="prompts without a set"),
        pytest.param(refused(labels=[]), NoItemsError, None, id="no labels"),
        pytest.param(refused(embeddings=[[1.0]] * 2), InvalidFieldError, "/labels", id="labels of another set"),
        pytest.param(refused(pair=["a", "d"]), InvalidFieldError, "/pair", id="a pair of no groups"),
        pytest.param(refused(pair=["a", "a"]), InvalidFieldError, "/pair", id="a pair of one group"),
        pytest.param(refused(wanted=[1.0]), InvalidFieldError, "/wanted", id="too few shares"),
        pytest.param(refused(elements=Elements(["x"])), InvalidFieldError, "/elements", id="elements of no images"),
        pytest.param(
            refused(images=[EncodedImage(b"none")], elements=Elements(["x"])),
            UnknownScorerError,
            None,
            id="no questions",
        ),
        pytest.param(
            refused(labels=None, prompts=["x"] * 3, embeddings=[[1.0, 2.0]]),
            InvalidFieldError,
            "/embeddings",
            id="another encoder",
        ),
        pytest.param(refused(images=[EncodedImage(b"x")] * 11, labels=["a"] * 11), TooManyItemsError, None, id="many"),
    ],
)
async def test_what_is_no_audit_is_refused(pipeline, request_, kind, pointer):
    with pytest.raises(PlumblineError) as caught:
        await audit(pipeline, request_)
    assert isinstance(caught.value, kind), caught.value
    if pointer is not None:
        errors: Any = caught.value.facts["errors"]
        assert errors[0]["pointer"] == pointer


async def test_audits_stay_allowed_where_encoders_are_followed_to_another_configuration(tmp_path):
    settings = Settings(
        backend="fake",
        scorers={"clipscore": {}},
        store=SecretStr(f"sqlite:///{tmp_path}/store.db"),
        edge=EdgeSettings(audits=True),
    )
    async with assembled(settings) as assembly:
        assert assembly.pipeline_over(assembly.scorers, assembly.tools.compute).checks.allows_audits
