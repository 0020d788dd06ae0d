"""Encoders in groups: each call goes to the group that holds the encoder, and one that is away harms no other."""

import asyncio
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from ray import serve as ray_serve
from ray.exceptions import ActorUnavailableError

from plumbline_models.core.errors import CapacityError, ConfigError, EncodersAwayError, EngineError, SupersededError
from plumbline_models.core.protocols import Score
from plumbline_serve.assembly import assemble
from plumbline_serve.configured_scorers import encoders_by_group, make_scorers
from plumbline_serve.deployments.encoder_replica import EncoderReplica
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.deployments.group_replicas import GroupReplicas
from plumbline_serve.deployments.grouped_compute import Descriptions, GroupedCompute
from plumbline_serve.deployments.remote_compute import RemoteCompute
from plumbline_serve.messages import EncodedImage, Item, ItemScores, ScoreRequest
from plumbline_serve.metrics import Instruments
from plumbline_serve.scheduling.request_context import RequestContext
from plumbline_serve.settings import Settings
from tests.services import encoded, picture

NEVER = RequestContext()
GROUPS = {"clip": {"scorers": ["clipscore"]}, "quality": {"scorers": ["qualiclip"]}}
IMAGE = np.zeros((224, 224, 3), np.uint8)


def settings_of(groups: dict[str, Any]) -> Settings:
    scorers: dict[str, Any] = {name: {} for group in groups.values() for name in group["scorers"]}
    split = {"layout": "split"}
    return Settings.model_validate({"backend": "fake", "scorers": scorers, "replicas": split, "groups": groups})


SETTINGS = settings_of(GROUPS)
GENERATION = Generation(1, SETTINGS)


class Leaving(EncoderReplica):
    """Goes away when it is told to."""

    away: ClassVar[set[str]] = set()

    async def __init__(self, generation, group):  # Ray awaits it
        self._group = group
        await super().__init__(generation, group)

    async def describe(self):
        if self._group in Leaving.away:
            raise ActorUnavailableError("gone", b"0" * 16)
        return await super().describe()


@pytest.fixture
def handles():
    """A replica of each group in this process: Ray's own way of running applications without a cluster."""
    Leaving.away.clear()
    deployment = cast("Any", ray_serve.deployment(Leaving))
    bound = {name: deployment.options(name=name).bind(GENERATION, name) for name in GROUPS}
    return {
        name: ray_serve.run(application, name=name, route_prefix=None, _local_testing_mode=True)
        for name, application in bound.items()
    }


def grouped(handles) -> GroupedCompute:
    held = encoders_by_group(SETTINGS, make_scorers(SETTINGS))
    keys = {name: [encoder.key for encoder in encoders] for name, encoders in held.items() if name in handles}
    groups = {name: GroupReplicas(handle, GENERATION, group=name) for name, handle in handles.items()}
    return GroupedCompute({name: RemoteCompute(replicas) for name, replicas in groups.items()}, keys)


async def nobody() -> list[Descriptions]:
    return []


def image_of(scorer: str) -> tuple[str, list[Any]]:
    encoder = make_scorers(SETTINGS)[scorer].image
    assert encoder is not None
    return encoder.key, [encoder.preprocess(IMAGE)]


async def test_each_call_goes_to_the_group_of_its_encoder(handles):
    compute = grouped(handles)
    await compute.start(nobody)
    assert (compute.is_ready, compute.groups) == (True, {"clip": "ready", "quality": "ready"})
    for scorer in ("clipscore", "qualiclip"):
        key, inputs = image_of(scorer)
        assert len((await compute.encode(key, inputs, NEVER)).encodings) == 1
        assert compute.load(key) is not None
    with pytest.raises(EngineError):
        await compute.encode("of no group", inputs, NEVER)
    await compute.close()


async def test_a_group_that_is_away_harms_no_other_and_is_remembered(handles):
    compute = grouped(handles)
    await compute.start(nobody)
    known = await compute.infos()
    Leaving.away.add("quality")
    await compute.look()
    assert (compute.is_ready, compute.groups) == (False, {"clip": "ready", "quality": "away"})
    key, inputs = image_of("qualiclip")
    with pytest.raises(CapacityError):
        await compute.encode(key, inputs, NEVER)
    key, inputs = image_of("clipscore")
    assert (await compute.encode(key, inputs, NEVER)).encodings
    assert await compute.infos() == known
    await compute.close()


async def test_while_the_only_group_is_away_whole_requests_are_refused(handles):
    compute = grouped({"quality": handles["quality"]})
    await compute.start(nobody)
    Leaving.away.add("quality")
    await compute.look()
    key, inputs = image_of("qualiclip")
    with pytest.raises(CapacityError) as caught:
        await compute.encode(key, inputs, NEVER)
    assert caught.value.code == "unavailable"
    await compute.close()


async def test_a_request_for_two_groups_gets_the_scores_of_the_one_that_is_there(handles):
    compute = grouped(handles)
    await compute.start(nobody)
    Leaving.away.add("quality")
    await compute.look()
    assembly = assemble(SETTINGS, make_scorers(SETTINGS), compute=compute, instruments=Instruments())
    assembly.service.is_loaded = True
    item = Item("a", EncodedImage(encoded(picture(1), "PNG")), "a cup")
    (result,) = (await assembly.service.score(ScoreRequest([item]))).results
    assert isinstance(result, ItemScores)
    assert isinstance(result.scores["clipscore"], Score)
    assert isinstance(result.scores["qualiclip"], EncodersAwayError)
    with pytest.raises(EncodersAwayError):
        await assembly.service.score(ScoreRequest([item], scorers=["qualiclip"]))
    assembly.decoder.close()
    await compute.close()


async def test_a_gateway_alone_starts_with_the_first_group_and_another_one_with_all(handles):
    Leaving.away.add("quality")
    alone = grouped(handles)
    await alone.start(nobody)
    assert list(alone.descriptions) == ["clip"]

    asked = asyncio.Event()

    async def one_that_knows_as_little() -> list[Descriptions]:
        asked.set()
        return [alone.descriptions]

    another = grouped(handles)
    starting = asyncio.create_task(another.start(one_that_knows_as_little))
    await asked.wait()
    assert not starting.done()
    Leaving.away.clear()
    await starting
    assert set(another.descriptions) == set(GROUPS)
    await alone.close()
    await another.close()


async def test_what_another_gateway_knows_need_not_be_waited_for(handles):
    first = grouped(handles)
    await first.start(nobody)
    Leaving.away.add("quality")

    async def the_first() -> list[Descriptions]:
        return [first.descriptions]

    another = grouped(handles)
    await another.start(the_first)
    assert await another.infos() == await first.infos()
    assert another.groups["quality"] == "away"
    await first.close()
    await another.close()


async def test_replicas_of_a_newer_configuration_are_told_of_and_take_no_calls_of_the_one_before(handles):
    sections: dict[str, Any] = {"clipscore": {"template": "A photo of {}"}, "qualiclip": {}}
    before = Generation(0, SETTINGS.model_copy(update={"scorers": sections}))
    told: list[Generation] = []
    clip, quality = (
        GroupReplicas(handles[name], before, group=name, on_newer=told.append) for name in ("clip", "quality")
    )
    await clip.look()
    await quality.look()
    assert told == [GENERATION]
    assert (clip.state, quality.state) == ("away", "ready")  # nothing of quality's has changed
    key, inputs = image_of("clipscore")
    with pytest.raises(SupersededError):
        await clip.encode(key, inputs, NEVER, max_reply_bytes=None)
    key, inputs = image_of("qualiclip")
    assert (await quality.encode(key, inputs, NEVER, max_reply_bytes=None)).encodings


def test_an_encoder_of_several_groups_is_in_the_first():
    settings = settings_of({"clip": {"scorers": ["clipscore"]}, "words": {"scorers": ["fclipscore"]}})
    scorers = make_scorers(settings)
    held = {name: {each.key for each in some} for name, some in encoders_by_group(settings, scorers).items()}
    clip, words = scorers["clipscore"], scorers["fclipscore"]
    assert held["clip"] == {each.key for each in (clip.image, clip.text) if each}
    assert words.pair is not None
    assert words.pair.key in held["words"]
    assert not held["clip"] & held["words"]


def test_a_group_without_an_encoder_of_its_own_is_refused():
    twice = {"clip": SETTINGS.groups["clip"], "again": SETTINGS.groups["clip"]}
    with pytest.raises(ConfigError, match="before again hold all"):
        encoders_by_group(SETTINGS.model_copy(update={"groups": twice}), make_scorers(SETTINGS))
