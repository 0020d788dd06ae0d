"""Compares the encoders of a new configuration with those that answer callers, before it takes their place.

Each replica of the new one asks all that run of the one before, in whichever group; they run the fixed inputs
themselves, behind the work of their callers and once in their lives. What has the same weights, precision and
conventions has to give the same: where it does not, the new replica does not start, Ray gives the new configuration up,
and the one before goes on.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray import serve as ray_serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import CapacityError, SetupError
from plumbline_models.core.protocols import Encoder, Scorer
from plumbline_serve.batching import LocalCompute
from plumbline_serve.deployments.fixed_inputs import Outcome, Sample, Verdict, compare, sample
from plumbline_serve.deployments.transport import Replicas
from plumbline_serve.metrics import Instruments
from plumbline_serve.scheduling.request_context import RequestContext

log = logging.getLogger(__name__)
COUNTS: Sequence[Outcome] = ("changed", "agrees", "differs")
"""What counts of an encoder where several replicas answer, the last most: not each of them holds it."""
ANSWER_TIMEOUT_S = 300.0
"""Of a replica that takes longer nothing is known: under load it computes for its callers first."""


class Handover:
    """The encoders of one process, as they are compared; bound to one event loop.

    Args:
        number: Of the process's configuration.
        scorers: That are configured.
        encoders: Which of theirs run here.
        compute: Runs them.
        instruments: Count what is found.
    """

    def __init__(
        self,
        number: int,
        scorers: Iterable[Scorer],
        encoders: Iterable[Encoder],
        *,
        compute: LocalCompute,
        instruments: Instruments,
    ) -> None:
        self.number = number
        self._scorers, self._encoders = list(scorers), list(encoders)
        self._compute = compute
        self._instruments = instruments
        self._sampling: asyncio.Task[dict[str, Sample]] | None = None

    async def check(self, before: Sequence[Replicas]) -> None:
        """See, in a replica that starts, that its encoders give what those give that they are to replace.

        Args:
            before: The replicas that take calls, whatever their configuration, of each deployment.

        Raises:
            SetupError: One does not.
        """
        numbers = await _ask(before, "generation_number")
        if all(number == self.number for number in numbers):
            return
        answers = await _ask(before, "compare", self.number, await self._samples())
        for answer in answers:
            if isinstance(answer, BaseException):
                log.warning("a replica of the configuration before could not be compared with: %r", answer)
        self._judge([answer for answer in answers if isinstance(answer, Mapping)])

    async def compare(self, number: int, after: Mapping[str, Sample]) -> Mapping[str, Verdict]:
        """What a replica of another configuration gives, beside what this one gives.

        Args:
            number: Of that configuration; nothing is compared with the same.
            after: What it gives.
        """
        if number == self.number:
            return {}
        verdicts = compare(await self._samples(), after)
        for key, verdict in verdicts.items():
            if verdict.outcome == "differs":  # counted here: the other one does not live to be asked
                self._instruments.compared(key, verdict.outcome)
        return verdicts

    def _judge(self, answers: Sequence[Mapping[str, Verdict]]) -> None:
        told = [each for answer in answers for each in answer.items()]
        found = dict(sorted(told, key=lambda each: COUNTS.index(each[1].outcome)))  # of several the last one counts
        wrong = {key: each for key, each in found.items() if each.outcome == "differs"}
        if wrong:
            said = ", ".join(f"{key} by {each.difference:.2g} (at most {each.bound:g})" for key, each in wrong.items())
            error = SetupError(
                "Encoders of the same weights, precision and conventions give other numbers on fixed inputs than those "
                f"of the configuration before: {said}.",
                encoders=list(wrong),
            )
            log.error("%s", error.detail)  # of what a replica raises Ray shows the beginning of the stack alone
            raise error
        for key, verdict in found.items():
            self._instruments.compared(key, verdict.outcome)
        counts = Counter(verdict.outcome for verdict in found.values())
        largest = max((each.difference for each in found.values()), default=0.0)
        log.info(
            "compared with the configuration before: %d encoders agree (they differ by at most %.2g), %d are others.",
            *(counts["agrees"], largest, counts["changed"]),
        )

    async def _samples(self) -> dict[str, Sample]:
        if self._sampling is None or (self._sampling.done() and self._sampling.exception() is not None):
            context = RequestContext(priority="batch")
            sampling = sample(self._scorers, self._encoders, self._compute, context)
            self._sampling = asyncio.create_task(sampling, name="encode fixed inputs")
        return await asyncio.shield(self._sampling)


async def running_before(others: Sequence[DeploymentHandle[Any]]) -> list[Replicas]:
    """Whose encoders a process that starts is to replace: its own deployment's, and those of others that are left.

    Args:
        others: Whose place its own takes, or has taken by now: a call to one that has ended would wait for ever.
    """
    try:
        context = ray_serve.get_replica_context()
    except RayServeException:
        return []  # outside of Ray Serve
    own = ray_serve.get_deployment_handle(context.deployment, context.app_name)
    left = (await asyncio.to_thread(ray_serve.status)).applications[context.app_name].deployments if others else ()
    return [Replicas(handle) for handle in (own, *others) if handle is own or handle.deployment_name in left]


async def _ask(before: Iterable[Replicas], method: str, *args: object) -> list[object]:
    answers = await asyncio.gather(*(_ask_each(replicas, method, *args) for replicas in before))
    return [answer for each in answers for answer in each]


async def _ask_each(replicas: Replicas, method: str, *args: object) -> list[object]:
    try:
        return await replicas.call_each(method, *args, timeout_s=ANSWER_TIMEOUT_S, away_level=logging.DEBUG)
    except CapacityError:
        return []  # none is there, as where the service starts, or where they have ended by now
