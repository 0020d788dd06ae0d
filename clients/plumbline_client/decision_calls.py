"""The methods about calibrations, which clients over REST have, and those in this process."""

from collections.abc import Sequence
from typing import Literal

from typing_extensions import Unpack

from plumbline_client import requests
from plumbline_client.options import CalibrateOptions, CallOptions, split_options
from plumbline_client.replies import Calibration
from plumbline_client.set_calls import AsyncSets, SyncSets


class SyncDecisions(SyncSets):
    """A blocking client that makes and changes decisions as well."""

    def calibrate(
        self,
        name: str,
        scorer: str | None,
        scores: Sequence[float],
        labels: Sequence[bool],
        *,
        alpha: float,
        direction: Literal["keep_good", "reject_bad"],
        **options: Unpack[CalibrateOptions],
    ) -> Calibration:
        """Find the threshold of a scorer, or of a combination, from labelled scores, and keep it; not over gRPC.

        Args:
            name: By which a `Threshold` uses it; one of the same name is replaced.
            scorer: Whose scores they are, as the service gives them now; None: they are values of `combine`.
            scores: Of items that nobody chose by their score.
            labels: Whether each is of a good one.
            alpha: Share of good ones that may be lost (`keep_good`), or of bad ones that may pass (`reject_bad`).
            direction: Which of the two is promised.
            options: `combine`, `groups`, `confidence`; `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        chosen, call = split_options(options, CalibrateOptions)
        chosen |= {"alpha": alpha, "direction": direction}
        return self._send(requests.CalibrateRequest(name, scorer, scores, labels, chosen), call)

    def calibrations(self, **options: Unpack[CallOptions]) -> tuple[Calibration, ...]:
        """List the calibrations that are kept, by name."""
        return self._send(requests.ListCalibrationsRequest(), options).calibrations

    def delete_calibration(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a calibration.

        Args:
            name: Of the calibration.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        self._send(requests.ForgetRequest(requests.CALIBRATIONS, name), options)


class AsyncDecisions(AsyncSets):
    """An asyncio client that makes and changes decisions as well."""

    async def calibrate(
        self,
        name: str,
        scorer: str | None,
        scores: Sequence[float],
        labels: Sequence[bool],
        *,
        alpha: float,
        direction: Literal["keep_good", "reject_bad"],
        **options: Unpack[CalibrateOptions],
    ) -> Calibration:
        """Find a threshold from labelled scores, and keep it; see `SyncDecisions.calibrate`."""
        chosen, call = split_options(options, CalibrateOptions)
        chosen |= {"alpha": alpha, "direction": direction}
        return await self._send(requests.CalibrateRequest(name, scorer, scores, labels, chosen), call)

    async def calibrations(self, **options: Unpack[CallOptions]) -> tuple[Calibration, ...]:
        """List the calibrations that are kept, by name."""
        return (await self._send(requests.ListCalibrationsRequest(), options)).calibrations

    async def delete_calibration(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a calibration; see `SyncDecisions.delete_calibration`."""
        await self._send(requests.ForgetRequest(requests.CALIBRATIONS, name), options)
