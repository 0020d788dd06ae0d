"""Encoders one hop away, behind a Ray Serve handle."""

import logging
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from plumbline_models.core.errors import CapacityError, OverloadedError, PlumblineError
from plumbline_models.core.protocols import EncoderInfo, Prepared
from plumbline_serve.compute import EncodedRows
from plumbline_serve.deadline import Deadline

log = logging.getLogger(__name__)


class RemoteCompute:
    """Sends each call of a request, with all its inputs, to one encoder replica."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def encode(self, key: str, inputs: Sequence[Prepared], deadline: Deadline) -> EncodedRows:
        """As `Compute.encode`.

        Raises:
            CapacityError: No encoder replica could answer; a retry may find another.
        """
        try:
            reply: EncodedRows | PlumblineError = await self._handle.encode.remote(key, inputs, deadline.remaining_s)
        except BackPressureError as error:
            raise OverloadedError("The service has more work than it can queue; try again later.") from error
        except (RayError, DeploymentUnavailableError) as error:
            log.warning("an encoder replica did not answer: %s", type(error).__name__)
            raise CapacityError("The encoders cannot be reached at the moment; try again.") from error
        if isinstance(reply, PlumblineError):
            raise reply
        return reply

    def expect(self, key: str, num_inputs: int) -> None:
        """As `Compute.expect`; not passed on, since a hop costs more than it would gain."""

    async def infos(self) -> Sequence[EncoderInfo]:
        """As `Compute.infos`."""
        infos: Sequence[EncoderInfo] = await self._handle.infos.remote()
        return infos
