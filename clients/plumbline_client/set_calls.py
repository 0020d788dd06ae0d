"""The methods about sets of images, of all clients."""

from collections.abc import Iterable

from typing_extensions import Unpack

from plumbline_client.async_scoring import AsyncScoring
from plumbline_client.options import CallOptions, split_options
from plumbline_client.requests import ForgetRequest
from plumbline_client.set_replies import AuditReply, DistanceReply, DiversityReply, ReferenceSetEntry
from plumbline_client.sets import (
    REFERENCE_SETS,
    AuditOptions,
    AuditRequest,
    DistanceOptions,
    DistanceRequest,
    DiversityOptions,
    DiversityRequest,
    ListReferenceSetsRequest,
    ReferSetOptions,
    ReferSetRequest,
    SetLike,
)
from plumbline_client.sync_scoring import SyncScoring


class SyncSets(SyncScoring):
    """A blocking client that asks about sets as well."""

    def diversity(self, members: SetLike, **options: Unpack[DiversityOptions]) -> DiversityReply:
        """Say how many different images a set holds, and which are the same.

        Args:
            members: Images, or an `EncodingSet` of embeddings or of images seen before.
            options: `texts`, `weights`, `orders`, `near_duplicate`, `scorer` (see `DiversityOptions`); `timeout_ms`,
                `priority`, `deterministic`, `request_id`.
        """
        chosen, call = split_options(options, DiversityOptions)
        return self._send(DiversityRequest(members, chosen), call)

    def distance(self, a: SetLike, b: SetLike | None = None, **options: Unpack[DistanceOptions]) -> DistanceReply:
        """Say how far a set is from another, or from one that is kept.

        Args:
            a: Two images or more, or an `EncodingSet`.
            b: The same.
            options: `reference` in place of `b`, `rbf_sigma`, `scorer` (see `DistanceOptions`); `timeout_ms`,
                `priority`, `deterministic`, `request_id`.
        """
        chosen, call = split_options(options, DistanceOptions)
        return self._send(DistanceRequest(a, b, chosen), call)

    def refer_set(self, name: str, members: SetLike, **options: Unpack[ReferSetOptions]) -> ReferenceSetEntry:
        """Keep a set under a name, for others to be compared with.

        Args:
            name: One of the same name is replaced.
            members: Two images or more, or an `EncodingSet`; of embeddings with its `encoder`.
            options: `scorer` (see `ReferSetOptions`); `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        chosen, call = split_options(options, ReferSetOptions)
        return self._send(ReferSetRequest(name, members, chosen), call)

    def reference_sets(self, **options: Unpack[CallOptions]) -> tuple[ReferenceSetEntry, ...]:
        """List the sets that are kept, by name."""
        return self._send(ListReferenceSetsRequest(), options).sets

    def delete_reference_set(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a set.

        Args:
            name: Of the set.
            options: `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        self._send(ForgetRequest(REFERENCE_SETS, name), options)

    def audit(self, groups: Iterable[str], **options: Unpack[AuditOptions]) -> AuditReply:
        """Say how evenly a set is spread over groups, where the service allows audits.

        Args:
            groups: All that there may be, two or more, those that are absent too.
            options: `members`, `labels`, `prompts`, `margin`, `pair`, `wanted`, `association`, `elements`,
                `is_official`, `scorer` (see `AuditOptions`); `timeout_ms`, `priority`, `deterministic`, `request_id`.
        """
        chosen, call = split_options(options, AuditOptions)
        return self._send(AuditRequest(groups, chosen), call)


class AsyncSets(AsyncScoring):
    """An asyncio client that asks about sets as well. Methods are those of `SyncSets`, awaited."""

    async def diversity(self, members: SetLike, **options: Unpack[DiversityOptions]) -> DiversityReply:
        """Say how many different images a set holds; see `SyncSets.diversity`."""
        chosen, call = split_options(options, DiversityOptions)
        return await self._send(DiversityRequest(members, chosen), call)

    async def distance(self, a: SetLike, b: SetLike | None = None, **options: Unpack[DistanceOptions]) -> DistanceReply:
        """Say how far a set is from another, or from one that is kept; see `SyncSets.distance`."""
        chosen, call = split_options(options, DistanceOptions)
        return await self._send(DistanceRequest(a, b, chosen), call)

    async def refer_set(self, name: str, members: SetLike, **options: Unpack[ReferSetOptions]) -> ReferenceSetEntry:
        """Keep a set under a name, for others to be compared with; see `SyncSets.refer_set`."""
        chosen, call = split_options(options, ReferSetOptions)
        return await self._send(ReferSetRequest(name, members, chosen), call)

    async def reference_sets(self, **options: Unpack[CallOptions]) -> tuple[ReferenceSetEntry, ...]:
        """List the sets that are kept, by name."""
        return (await self._send(ListReferenceSetsRequest(), options)).sets

    async def delete_reference_set(self, name: str, **options: Unpack[CallOptions]) -> None:
        """Forget a set; see `SyncSets.delete_reference_set`."""
        await self._send(ForgetRequest(REFERENCE_SETS, name), options)

    async def audit(self, groups: Iterable[str], **options: Unpack[AuditOptions]) -> AuditReply:
        """Say how evenly a set is spread over groups; see `SyncSets.audit`."""
        chosen, call = split_options(options, AuditOptions)
        return await self._send(AuditRequest(groups, chosen), call)
