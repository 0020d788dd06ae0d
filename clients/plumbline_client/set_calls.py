"""The methods of the clients that are about sets of images."""

from collections.abc import Iterable, Mapping
from typing import Any

from typing_extensions import Unpack

from plumbline_client.async_scoring import AsyncScoring
from plumbline_client.options import CallOptions
from plumbline_client.set_replies import AuditReply, DistanceReply, DiversityReply, ReferenceSetEntry
from plumbline_client.sets import (
    AuditRequest,
    DeleteReferenceSetRequest,
    DistanceRequest,
    DiversityRequest,
    ListReferenceSetsRequest,
    ReferSetRequest,
    SetLike,
)
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
        b: SetLike | None = None,
        *,
        reference: str | None = None,
        rbf_sigma: float | None = None,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> DistanceReply:
        """Say how far a set is from another, or from one that the service keeps.

        Args:
            a: Two images or more, or an `EncodingSet`.
            b: The same.
            reference: In place of `b`: the name of a set that is kept, see `refer_set`.
            rbf_sigma: Width of the Gaussian kernel; None: 0.5.
            scorer: Whose encoder to use; None: that of the reference, else the first loaded scorer's that has both.
            options: `timeout_ms`, `priority`, `request_id`.
        """
        return self._send(DistanceRequest(a, b, reference=reference, rbf_sigma=rbf_sigma, scorer=scorer), options)

    def refer_set(
        self, name: str, members: SetLike, *, scorer: str | None = None, **options: Unpack[CallOptions]
    ) -> ReferenceSetEntry:
        """Keep a set under a name, for others to be compared with.

        Args:
            name: One of the same name is replaced.
            members: Two images or more, or an `EncodingSet`; of embeddings with its `encoder`.
            scorer: Whose encoder to use; None: the first loaded scorer's that has both.
            options: `timeout_ms`, `priority`, `request_id`.
        """
        return self._send(ReferSetRequest(name, members, scorer=scorer), options)

    def reference_sets(self, **options: Unpack[CallOptions]) -> tuple[ReferenceSetEntry, ...]:
        """List the sets that are kept, by name."""
        return self._send(ListReferenceSetsRequest(), options).sets

    def delete_reference_set(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a set.

        Args:
            name: Of the set.
            options: `timeout_ms`, `priority`, `request_id`.
        """
        self._send(DeleteReferenceSetRequest(name), options)

    def audit(
        self,
        groups: Iterable[str],
        *,
        members: SetLike | None = None,
        labels: Iterable[str | None] | None = None,
        prompts: Iterable[str] | None = None,
        margin: float | None = None,
        pair: tuple[str, str] | None = None,
        wanted: Iterable[float] | None = None,
        association: float | None = None,
        elements: Mapping[str, Iterable[str]] | None = None,
        is_official: bool = False,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> AuditReply:
        """Say how evenly a set is spread over groups, where the service allows audits.

        Args:
            groups: All that there may be, two or more, those that are absent too.
            members: Images, or an `EncodingSet`; None where labels are all that is known.
            labels: The group of each member, None where nobody can tell.
            prompts: A text for each group, in place of labels: each member gets that of the nearest.
            margin: By how much the best group's probability has to be above the second; None: 0.2.
            pair: The two groups whose gap is meant; None: the largest and the smallest.
            wanted: The share that each group should have; None: all even.
            association: Share of the stereotypical, for the composite.
            elements: What images are asked about, by kind: explicit, implied, forbidden, markers.
            is_official: Whether groups are those that were seen, as T2I-BiasBench's program has it.
            scorer: Whose encoders to use.
            options: `timeout_ms`, `priority`, `request_id`.
        """
        chosen = _audited(margin=margin, pair=pair, wanted=wanted, elements=elements, is_official=is_official)
        chosen |= {"association": association, "scorer": scorer}
        request = AuditRequest(groups, members=members, labels=labels, prompts=prompts, **chosen)
        return self._send(request, options)


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
        b: SetLike | None = None,
        *,
        reference: str | None = None,
        rbf_sigma: float | None = None,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> DistanceReply:
        """Say how far a set is from another, or from one that is kept; see `SyncSets.distance`."""
        request = DistanceRequest(a, b, reference=reference, rbf_sigma=rbf_sigma, scorer=scorer)
        return await self._send(request, options)

    async def refer_set(
        self, name: str, members: SetLike, *, scorer: str | None = None, **options: Unpack[CallOptions]
    ) -> ReferenceSetEntry:
        """Keep a set under a name, for others to be compared with; see `SyncSets.refer_set`."""
        return await self._send(ReferSetRequest(name, members, scorer=scorer), options)

    async def reference_sets(self, **options: Unpack[CallOptions]) -> tuple[ReferenceSetEntry, ...]:
        """List the sets that are kept, by name."""
        return (await self._send(ListReferenceSetsRequest(), options)).sets

    async def delete_reference_set(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a set; see `SyncSets.delete_reference_set`."""
        await self._send(DeleteReferenceSetRequest(name), options)

    async def audit(
        self,
        groups: Iterable[str],
        *,
        members: SetLike | None = None,
        labels: Iterable[str | None] | None = None,
        prompts: Iterable[str] | None = None,
        margin: float | None = None,
        pair: tuple[str, str] | None = None,
        wanted: Iterable[float] | None = None,
        association: float | None = None,
        elements: Mapping[str, Iterable[str]] | None = None,
        is_official: bool = False,
        scorer: str | None = None,
        **options: Unpack[CallOptions],
    ) -> AuditReply:
        """Say how evenly a set is spread over groups; see `SyncSets.audit`."""
        chosen = _audited(margin=margin, pair=pair, wanted=wanted, elements=elements, is_official=is_official)
        chosen |= {"association": association, "scorer": scorer}
        request = AuditRequest(groups, members=members, labels=labels, prompts=prompts, **chosen)
        return await self._send(request, options)


def _audited(
    *,
    margin: float | None,
    pair: tuple[str, str] | None,
    wanted: Iterable[float] | None,
    elements: Mapping[str, Iterable[str]] | None,
    is_official: bool,
) -> dict[str, Any]:
    """What was chosen of an audit, as the request has it."""
    return {
        "margin": margin,
        "pair": None if pair is None else list(pair),
        "wanted": None if wanted is None else list(wanted),
        "elements": None if elements is None else {kind: list(names) for kind, names in elements.items()},
        "compat": "official" if is_official else None,
    }
