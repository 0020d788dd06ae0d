"""Follows encoder groups from one configuration to the next.

Ray replaces a group's replicas before it has replaced the gateways, and groups one after the other. So a gateway knows
of each group which configuration its replicas run, and has the group's scorers as they are there. Once replicas of a
newer one are in the place of those that it calls, it builds scorers and tokenizers anew and answers by them; requests
under way are made again where they need what is gone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Scorer
from plumbline_serve.assembly import Assembly
from plumbline_serve.configured_scorers import encoders_by_group, encoders_of, make_scorers
from plumbline_serve.deployments.generation import Generation
from plumbline_serve.deployments.group_replicas import GroupReplicas
from plumbline_serve.deployments.grouped_compute import Descriptions, GroupedCompute
from plumbline_serve.deployments.remote_compute import RemoteCompute
from plumbline_serve.metrics import Instruments
from plumbline_serve.requests.core import Core

log = logging.getLogger(__name__)


class GroupFollower:
    """Keeps a gateway's scorers those of its encoder groups; bound to one event loop.

    Args:
        generation: What the gateway was started with.
        handles: Of the groups' deployments.
        instruments: Count for every configuration alike.
    """

    def __init__(
        self, generation: Generation, handles: Mapping[str, DeploymentHandle[Any]], instruments: Instruments
    ) -> None:
        self._handles = handles
        self._instruments = instruments
        self._generations = dict.fromkeys(generation.settings.encoder_groups, generation)
        self._assembly: Assembly | None = None
        self._following: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.scorers, self.compute = self._build(self._generations)

    async def start(self, assembly: Assembly, ask_others: Callable[[], Awaitable[Sequence[Descriptions]]]) -> None:
        """Wait for the groups as `GroupedCompute.start` does, and follow them from then on.

        Args:
            assembly: Over `scorers` and `compute`.
            ask_others: What the gateways that answer callers know.
        """
        await _load_preprocessing(self.scorers)
        await self.compute.start(ask_others)
        self._assembly = assembly

    def _build(self, generations: Mapping[str, Generation]) -> tuple[dict[str, Scorer], GroupedCompute]:
        """Scorers, and what runs their encoders; of each group as its own configuration has it."""
        tell = self._instruments
        built = {
            generation.number: make_scorers(generation.settings, on_fallback=tell.fell_back, on_lookup=tell.looked_up)
            for generation in generations.values()
        }
        scorers: dict[str, Scorer] = {}
        groups: dict[str, RemoteCompute] = {}
        keys: dict[str, list[str]] = {}
        for name, generation in generations.items():
            own, group = built[generation.number], generation.settings.encoder_groups[name]
            scorers |= {scorer: own[scorer] for scorer in group.scorers if scorer in own}
            keys[name] = [encoder.key for encoder in encoders_by_group(generation.settings, own)[name]]
            replicas = GroupReplicas(
                self._handles[name],
                generation,
                group=name,
                may_sleep=group.autoscale is not None and group.autoscale.min == 0,
                on_newer=partial(self._see, name),
            )
            groups[name] = RemoteCompute(replicas)
        order = list(built[max(built)])
        ordered = sorted(scorers.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))
        return dict(ordered), GroupedCompute(groups, keys)

    def _see(self, group: str, generation: Generation) -> None:
        is_idle = self._following is None or self._following.done()
        if self._assembly is not None and is_idle and generation.number > self._generations[group].number:
            following = self._follow(group, generation, self._assembly)
            self._following = asyncio.create_task(following, name=f"follow {group}")

    async def _follow(self, group: str, generation: Generation, assembly: Assembly) -> None:
        generations = {**self._generations, group: generation}
        former = self.compute

        async def what_is_known() -> list[Descriptions]:
            return [former.descriptions]

        try:
            scorers, compute = self._build(generations)
            await _load_preprocessing(scorers)
            await compute.start(what_is_known)
        except PlumblineError as error:
            log.error("the new configuration of %s cannot be followed: %s", group, error.detail)
            return
        core = assembly.service.switch(assembly.pipeline_over(scorers, compute), compute)
        self._generations, self.scorers, self.compute = generations, scorers, compute
        self._instruments.loaded(await assembly.service.scorers(), await compute.infos())
        log.info("requests are answered by the new configuration of %s", group)
        retiring = asyncio.create_task(self._retire(core, former, assembly.settings.replicas.drain_timeout_s))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retire(self, core: Core, compute: GroupedCompute, timeout_s: float) -> None:
        await core.until_idle(timeout_s)
        await compute.close()


async def _load_preprocessing(scorers: Mapping[str, Scorer]) -> None:
    encoders = encoders_of(scorers.values())
    await asyncio.gather(*(asyncio.to_thread(encoder.load_preprocessing) for encoder in encoders))
