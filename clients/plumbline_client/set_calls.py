"""The methods of the REST clients that are about sets of images."""

from collections.abc import Iterable

from typing_extensions import Unpack

from plumbline_client.async_scoring import AsyncScoring
from plumbline_client.options import CallOptions
from plumbline_client.set_replies import DistanceReply, DiversityReply
from plumbline_client.sets import DistanceRequest, DiversityRequest, SetLike
from plumbline_client.sync_scoring import SyncScoring

NEAR_DUPLICATE = 0.98
"""Cosine from which on two images are near-duplicates, where the caller does not say."""


class SyncSets(SyncScoring):
    """A blocking client that asks about sets as well."""

    def diversity(
        self,
        members: SetLike,
        *,
        texts: Iterable[str] | None = None,
        weights: Iterable[float] | None = None,
        orders: Iterable[float] | None = None,
        near_duplicate: float | None = NEAR_DUPLICATE,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> DiversityReply:
        """Say how many different images a set holds, and which are the same.

        Args:
            members: Images, or an `EncodingSet` of embeddings or of images seen before.
            texts: The prompt of each member, for SCE.
            weights: How much each member counts in the Vendi score; None: all alike.
            orders: Of the Vendi score, 0.5 to 1000 or `math.inf`; None: 1, 2 and infinity.
            near_duplicate: Least cosine of near-duplicates; None: only equal members are found.
            scorer: Whose encoders to use; None: the first loaded scorer's that has both.
            options: `timeout_ms`, `priority`, `request_id`.
        """
        request = DiversityRequest(
            members, texts=texts, weights=weights, orders=orders, near_duplicate=near_duplicate, scorer=scorer
        )
        return self._send(request, options)

    def distance(
        self,
        a: SetLike,
        b: SetLike,
        *,
        rbf_sigma: float | None = None,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> DistanceReply:
        """Say how far two sets are from each other.

        Args:
            a: Two images or more, or an `EncodingSet`.
            b: The same.
            rbf_sigma: Width of the Gaussian kernel; None: 0.5.
            scorer: Whose encoder to use; None: the first loaded scorer's that has both.
            options: `timeout_ms`, `priority`, `request_id`.
        """
        return self._send(DistanceRequest(a, b, rbf_sigma=rbf_sigma, scorer=scorer), options)


class AsyncSets(AsyncScoring):
    """An asyncio client that asks about sets as well. Methods are those of `SyncSets`, awaited."""

    async def diversity(
        self,
        members: SetLike,
        *,
        texts: Iterable[str] | None = None,
        weights: Iterable[float] | None = None,
        orders: Iterable[float] | None = None,
        near_duplicate: float | None = NEAR_DUPLICATE,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> DiversityReply:
        """Say how many different images a set holds; see `SyncSets.diversity`."""
        request = DiversityRequest(
            members, texts=texts, weights=weights, orders=orders, near_duplicate=near_duplicate, scorer=scorer
        )
        return await self._send(request, options)

    async def distance(
        self,
        a: SetLike,
        b: SetLike,
        *,
        rbf_sigma: float | None = None,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> DistanceReply:
        """Say how far two sets are from each other; see `SyncSets.distance`."""
        return await self._send(DistanceRequest(a, b, rbf_sigma=rbf_sigma, scorer=scorer), options)
