"""Random messages about sets put right, so that the service has to work on them."""

import math
import struct
from typing import Any

from plumbline_wire.v1 import scoring_pb2 as pb

GROUPS = ("a", "b", "c")
SetMessage = pb.DiversityRequest | pb.DistanceRequest | pb.AuditRequest | pb.ReferenceSetRequest


def make_set_sound(request: SetMessage) -> None:
    """Leave out, or put right, what refuses a request about sets as a whole."""
    request.ClearField("scorer")
    match request:
        case pb.DistanceRequest():
            _make_distance_sound(request)
        case pb.AuditRequest():
            _make_audit_sound(request)
        case pb.DiversityRequest():
            _make_form_sound(request)
            _make_diversity_sound(request)
        case _:
            _make_rows_sound(request)
            request.name, request.encoder = "kept", "mine"


def _make_form_sound(given: Any) -> None:
    """Images where there are any, embeddings where there are none."""
    if not given.images:
        _make_rows_sound(given)
        return
    for name in ("embeddings", "hashes", "encoder"):
        given.ClearField(name)


def _make_rows_sound(given: Any) -> None:
    """Two embeddings or more, of two numbers each."""
    sizes = [*map(len, given.embeddings), 3, 5]
    for name in ("images", "embeddings", "hashes"):
        given.ClearField(name)
    given.embeddings.extend(struct.pack("<2f", 1.0, size) for size in sizes)
    given.encoder = given.encoder[:256]


def _make_diversity_sound(request: pb.DiversityRequest) -> None:
    num = len(request.images) + len(request.embeddings)
    for name, value in (("texts", "a red circle"), ("weights", 0.5)):
        if getattr(request, name):
            request.ClearField(name)  # type: ignore[arg-type]  # one of two names that there are
            getattr(request, name).extend([value] * num)
    sound = [order for order in request.orders if 0.5 <= order <= 1000 or order == math.inf]
    request.ClearField("orders")
    request.orders.extend(sound)
    if not 0 <= request.near_duplicate <= 1:
        request.ClearField("near_duplicate")


def _make_distance_sound(request: pb.DistanceRequest) -> None:
    request.ClearField("reference")
    request.ClearField("rbf_sigma")
    for given in (request.a, request.b):
        _make_rows_sound(given)
        given.ClearField("encoder")


def _make_audit_sound(request: pb.AuditRequest) -> None:
    elements = ("margin", "pair", "wanted", "association", "elements", "compat")
    for name in ("images", "embeddings", "hashes", "encoder", "prompts", "groups", *elements):
        request.ClearField(name)  # type: ignore[arg-type]  # names that there are
    request.groups.extend(GROUPS)
    for place, label in enumerate(request.labels):
        if label.HasField("group"):
            label.group = GROUPS[place % len(GROUPS)]
    request.labels.add(group=GROUPS[0])
