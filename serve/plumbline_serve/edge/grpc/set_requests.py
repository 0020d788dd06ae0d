"""gRPC's messages about sets read as the service's; as `requests`, of which these are a part."""

import math
from typing import Any, TypeAlias, TypeVar

from pydantic import TypeAdapter

from plumbline_models.sets.distances import DEFAULT_SIGMA
from plumbline_models.sets.measures import NEAR_DUPLICATE, ORDERS
from plumbline_models.sets.zero_shot import MARGIN
from plumbline_serve.edge import set_values
from plumbline_serve.edge.faults import Faults, Location
from plumbline_serve.edge.grpc.fields import given, priority, source, timeout_ms
from plumbline_serve.edge.rules import choice_fault
from plumbline_serve.edge.values import ArtefactName
from plumbline_serve.messages import audits as audit_messages
from plumbline_serve.messages import sets as set_messages
from plumbline_serve.messages.encoding_set import EncodingSet
from plumbline_serve.settings import Limits
from plumbline_wire.v1 import scoring_pb2 as pb

_Set: TypeAlias = pb.EncodingSet | pb.DiversityRequest | pb.AuditRequest | pb.ReferenceSetRequest
T = TypeVar("T")

_MEMBERS: TypeAdapter[Any] = TypeAdapter(set_values.OfSet[Any])
_HASHES: TypeAdapter[Any] = TypeAdapter(set_values.OfSet[set_values.Sha256])
_ENCODER: TypeAdapter[Any] = TypeAdapter(set_values.EncoderName)
_KEPT_ENCODER: TypeAdapter[Any] = TypeAdapter(set_values.KeptEncoderName)
_WEIGHTS: TypeAdapter[Any] = TypeAdapter(set_values.OfSet[set_values.Weight])
_ORDERS: TypeAdapter[Any] = TypeAdapter(set_values.Orders[Any])
_ORDER: TypeAdapter[Any] = TypeAdapter(set_values.Order)
_FROM_ZERO_TO_ONE: TypeAdapter[Any] = TypeAdapter(set_values.FromZeroToOne)
_SIGMA: TypeAdapter[Any] = TypeAdapter(set_values.RbfSigma)
_NAME: TypeAdapter[Any] = TypeAdapter(ArtefactName)
_GROUPS: TypeAdapter[Any] = TypeAdapter(set_values.PerGroup[set_values.GroupText])
_PROMPTS: TypeAdapter[Any] = TypeAdapter(set_values.PerGroup[str])
_WANTED: TypeAdapter[Any] = TypeAdapter(set_values.PerGroup[set_values.Weight])
_LABELS: TypeAdapter[Any] = TypeAdapter(set_values.Labels)
_PAIR: TypeAdapter[Any] = TypeAdapter(set_values.Pair)
_ELEMENTS: TypeAdapter[Any] = TypeAdapter(set_values.ElementNames)
_COMPAT: TypeAdapter[Any] = TypeAdapter(set_values.AuditCompat)
_COMPATS: dict[int, Any] = {pb.COMPAT_UNSPECIFIED: None, pb.COMPAT_OFFICIAL: "official"}


def diversity_request(request: pb.DiversityRequest, limits: Limits) -> set_messages.DiversityRequest:
    """What a call of `Diversity` asks for.

    Args:
        request: What came over the wire.
        limits: The service's, which the service holds against sets itself.

    Raises:
        InvalidFieldError: A value is not as the schema says.
    """
    del limits
    faults = Faults()
    message = set_messages.DiversityRequest(
        **_members(request, faults),
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        texts=faults.check(_MEMBERS, list(request.texts) or None, ("texts",)),
        weights=faults.check(_WEIGHTS, list(request.weights) or None, ("weights",)),
        orders=_orders(request, faults),
        near_duplicate=_near_duplicate(request, faults),
        scorer=given(request, "scorer"),
    )
    if not faults.num:
        faults.add((), _form_fault(request))
    faults.refuse()
    return message


def distance_request(request: pb.DistanceRequest, limits: Limits) -> set_messages.DistanceRequest:
    """What a call of `Distance` asks for; see `diversity_request`."""
    del limits
    faults = Faults()
    if not request.HasField("a"):
        faults.add(("a",), "is required")
    message = set_messages.DistanceRequest(
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        a=_set(request.a, faults, ("a",)) if request.HasField("a") else EncodingSet(),
        b=_set(request.b, faults, ("b",)) if request.HasField("b") else None,
        reference=faults.check(_NAME, given(request, "reference"), ("reference",)),
        rbf_sigma=_or(faults.check(_SIGMA, given(request, "rbf_sigma"), ("rbf_sigma",)), DEFAULT_SIGMA),
        scorer=given(request, "scorer"),
    )
    if not faults.num:
        faults.add((), choice_fault(b=message.b, reference=message.reference))
    faults.refuse()
    return message


def audit_request(request: pb.AuditRequest, limits: Limits) -> audit_messages.AuditRequest:
    """What a call of `Audit` asks for; see `diversity_request`."""
    del limits
    faults = Faults()
    compat = _COMPATS.get(request.compat, str(request.compat))
    message = audit_messages.AuditRequest(
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        **_members(request, faults),
        groups=faults.check(_GROUPS, list(request.groups), ("groups",)),
        labels=_labels(request, faults),
        prompts=faults.check(_PROMPTS, list(request.prompts) or None, ("prompts",)),
        margin=_or(faults.check(_FROM_ZERO_TO_ONE, given(request, "margin"), ("margin",)), MARGIN),
        pair=faults.check(_PAIR, list(request.pair) or None, ("pair",)),
        wanted=faults.check(_WANTED, list(request.wanted) or None, ("wanted",)),
        association=faults.check(_FROM_ZERO_TO_ONE, given(request, "association"), ("association",)),
        elements=_elements(request, faults),
        compat=faults.check(_COMPAT, compat, ("compat",)),
        scorer=given(request, "scorer"),
    )
    if not faults.num:
        faults.add((), choice_fault(labels=message.labels, prompts=message.prompts))
    faults.refuse()
    return message


def reference_set_request(request: pb.ReferenceSetRequest, limits: Limits) -> set_messages.ReferenceSetRequest:
    """What a call of `ReferSet` asks for; see `diversity_request`."""
    del limits
    faults = Faults()
    message = set_messages.ReferenceSetRequest(
        **_members(request, faults, encoder=_KEPT_ENCODER),
        timeout_ms=timeout_ms(request, faults),
        priority=priority(request, faults),
        deterministic=request.deterministic,
        name=faults.check(_NAME, request.name, ("name",)),
        scorer=given(request, "scorer"),
    )
    if not faults.num:
        faults.add((), _form_fault(request) or set_values.kept_set_fault(message.embeddings or None, message.encoder))
    faults.refuse()
    return message


def _set(request: pb.EncodingSet, faults: Faults, location: Location) -> EncodingSet:
    num_before = faults.num
    found = EncodingSet(**_members(request, faults, location))
    if faults.num == num_before:  # as a schema looks at a whole once its fields are right
        faults.add(location, _form_fault(request))
    return found


def _members(
    request: _Set, faults: Faults, location: Location = (), *, encoder: TypeAdapter[Any] = _ENCODER
) -> dict[str, Any]:
    """The fields of a set; images are read where there are not too many, for reading holds up everybody else."""
    num_before = faults.num
    faults.check(_MEMBERS, list(request.images), (*location, "images"))
    images = request.images if faults.num == num_before else ()
    return {
        "images": [source(each, faults, (*location, "images", index)) for index, each in enumerate(images)],
        "embeddings": faults.check(_MEMBERS, list(request.embeddings), (*location, "embeddings")),
        "hashes": faults.check(_HASHES, list(request.hashes), (*location, "hashes")),
        "encoder": faults.check(encoder, given(request, "encoder"), (*location, "encoder")),
    }


def _form_fault(request: _Set) -> str | None:
    """What is wrong with the form that a set comes in; protobuf has no list that is given and empty."""
    images, embeddings, hashes = (list(form) or None for form in (request.images, request.embeddings, request.hashes))
    return set_values.set_fault(images, embeddings, hashes, given(request, "encoder"))


def _orders(request: pb.DiversityRequest, faults: Faults) -> list[float]:
    if not request.orders:
        return list(ORDERS)
    orders = list(request.orders)
    num_before = faults.num
    faults.check(_ORDERS, orders, ("orders",))
    if faults.num == num_before:
        for index, order in enumerate(orders):
            faults.check(_ORDER, None if order == math.inf else order, ("orders", index))
    return orders


def _near_duplicate(request: pb.DiversityRequest, faults: Faults) -> float | None:
    if request.WhichOneof("nearness") == "near_duplicate":
        near: float = faults.check(_FROM_ZERO_TO_ONE, request.near_duplicate, ("near_duplicate",))
        return near
    return None if request.equal_only else NEAR_DUPLICATE


def _labels(request: pb.AuditRequest, faults: Faults) -> list[str | None] | None:
    labels = [each.group if each.HasField("group") else None for each in request.labels]
    return faults.check(_LABELS, labels or None, ("labels",))


def _elements(request: pb.AuditRequest, faults: Faults) -> audit_messages.Elements | None:
    if not request.HasField("elements"):
        return None
    asked = request.elements
    kinds = {
        "explicit": asked.explicit, "implied": asked.implied, "forbidden": asked.forbidden, "markers": asked.markers
    }  # fmt: skip
    return audit_messages.Elements(
        **{name: faults.check(_ELEMENTS, list(names), ("elements", name)) for name, names in kinds.items()}
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
