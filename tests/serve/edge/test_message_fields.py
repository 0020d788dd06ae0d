"""A message has the same fields, of the same types, in `messages`, in protobuf, in REST's schema and in the client."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import pytest
from google.protobuf.descriptor import FieldDescriptor
from pydantic import BaseModel

from plumbline_client import kept_calls as client_decisions
from plumbline_client import problems as client_problems
from plumbline_client import replies as client
from plumbline_client import requests as client_requests
from plumbline_client import set_replies as client_sets
from plumbline_client import sets as client_set_requests
from plumbline_client.documents import claims_document
from plumbline_client.images import Image
from plumbline_client.items import Combination, Item, Question, Term, Threshold
from plumbline_models.core.questions import Question as AskedQuestion
from plumbline_models.sets.audit import Spread
from plumbline_models.sets.sce import Sce
from plumbline_models.sets.zero_shot import Guess
from plumbline_serve import messages
from plumbline_serve.edge import schemas
from plumbline_serve.edge.schemas import decisions as decision_schemas
from plumbline_serve.edge.schemas import replies as reply_schemas
from plumbline_serve.edge.schemas import requests as request_schemas
from plumbline_serve.edge.schemas import sets as set_schemas
from plumbline_serve.messages import audits as audit_messages
from plumbline_serve.messages import decisions as decision_messages
from plumbline_serve.messages import drift as drift_messages
from plumbline_serve.messages import encoding_set
from plumbline_serve.messages import sets as set_messages
from plumbline_wire.v1 import scoring_pb2 as pb

Kinds: TypeAlias = frozenset[str]
"""The JSON types that a field may have; null apart."""


@dataclass(frozen=True)
class Forms:
    """One message as each of the four has it: a class, several of which one comes, a document; None: not at all."""

    message: Any
    proto: Any
    rest: Any
    client: Any


IMAGE = Image.data(b"x")
ITEMS = [Item(IMAGE, "a"), Item(IMAGE, "b")]  # share an image, so that the request has `images`
CLAIMS = claims_document(1.0, "batch", deterministic=True)  # a call adds them
COMBINE = {"a": Combination("sum", [Term("b")])}
RANK = (
    client_requests.RankRequest("a", [IMAGE], scorer="a", combine=COMBINE, top_k=1).document()
    | client_requests.RankRequest(IMAGE, ["a"]).document()
)
SELECT = client_requests.SelectRequest(
    "a",
    [IMAGE],
    {"scorer": "a", "correlation": 0.5, "correlation_interval": (0.1, 0.9), "temperature": 1.0, "seed": 1},
    COMBINE,
).document()
CLASSIFY = client_decisions.ClassifyRequest("a", {"a": [IMAGE], "b": [IMAGE]}, {"a": "a", "b": "b"}, "a").document()
REFER = client_decisions.ReferRequest("a", [0.1]).document() | client_decisions.ReferRequest("a", None).document()
CALIBRATE = client_requests.CalibrateRequest(
    "a",
    "a",
    [0.1],
    [True],
    {"alpha": 0.1, "direction": "keep_good", "groups": ["a"], "confidence": 0.9, "combine": COMBINE},
).document()
EMBED = client_requests.EmbedRequest(["a"], scorer="a").document() | client_requests.EmbedRequest([IMAGE]).document()
SET = client_set_requests.EncodingSet.images([IMAGE])
SETS = {
    form.form: list(form.members)
    for form in (
        SET,
        client_set_requests.EncodingSet.embeddings([[1.0]]),
        client_set_requests.EncodingSet.seen([IMAGE]),
    )
} | {"encoder": "a"}
DIVERSITY = (
    client_set_requests.DiversityRequest(
        SET, {"texts": ["a"], "weights": [1.0], "orders": [1.0], "scorer": "a"}
    ).document()
    | SETS
)
ELEMENTS: dict[str, Any] = {"explicit": [], "implied": [], "forbidden": [], "markers": []}
AUDIT = (
    client_set_requests.AuditRequest(
        ["a", "b"],
        {"members": SET, "labels": ["a"], "prompts": ["x", "y"], "margin": 0.1, "pair": ("a", "b"), "wanted": [1.0]}
        | {"association": 0.5, "elements": ELEMENTS, "is_official": True, "scorer": "a"},
    ).document()
    | SETS
)
DISTANCE = client_set_requests.DistanceRequest(SET, SET, {"reference": "a", "rbf_sigma": 1.0, "scorer": "a"}).document()
REFER_SET = client_set_requests.ReferSetRequest("a", SET, {"scorer": "a"}).document() | SETS
FORMS = {
    "Item": Forms(messages.Item, pb.Item, schemas.Item, Item),
    "Question": Forms(AskedQuestion, pb.Question, schemas.Question, Question),
    "RawImage": Forms(messages.RawImage, pb.RawImage, request_schemas.RawShape, None),
    "ScoreRequest": Forms(
        messages.ScoreRequest,
        pb.ScoreRequest,
        schemas.ScoreRequest,
        client_requests.ScoreRequest(ITEMS, ["a"], COMBINE, {}).document() | CLAIMS,
    ),
    "Combination": Forms(messages.Combination, pb.Combination, schemas.Combination, Combination),
    "Term": Forms(messages.Term, pb.Term, request_schemas.Term, Term),
    "Threshold": Forms(messages.Threshold, pb.Threshold, schemas.Threshold, Threshold),
    "Policy": Forms(None, pb.Policy, request_schemas.Policy, {"all": []}),
    "FilterRequest": Forms(
        messages.FilterRequest,
        pb.FilterRequest,
        schemas.FilterRequest,
        client_requests.FilterRequest(ITEMS, [Threshold("a", min=1)], combine=COMBINE, explain=True).document()
        | CLAIMS,
    ),
    "RankRequest": Forms(messages.RankRequest, pb.RankRequest, schemas.RankRequest, RANK | CLAIMS),
    "SelectRequest": Forms(messages.SelectRequest, pb.SelectRequest, schemas.SelectRequest, SELECT | CLAIMS),
    "SelectReply": Forms(messages.SelectReply, pb.SelectReply, schemas.SelectReply, client.SelectReply),
    "CalibrationRequest": Forms(
        decision_messages.CalibrationRequest, None, schemas.CalibrationRequest, CALIBRATE | CLAIMS
    ),
    "BoundTo": Forms(decision_messages.BoundTo, pb.BoundTo, reply_schemas.BoundTo, client.BoundTo),
    "GroupThreshold": Forms(
        decision_messages.GroupThreshold, None, reply_schemas.GroupThreshold, client.GroupThreshold
    ),
    "Calibration": Forms(decision_messages.Calibration, None, schemas.Calibration, client.Calibration),
    "ClassifierRequest": Forms(messages.ClassifierRequest, None, schemas.ClassifierRequest, CLASSIFY | CLAIMS),
    "ClassifierEntry": Forms(
        decision_messages.ClassifierEntry, None, schemas.ClassifierEntry, client_decisions.ClassifierEntry
    ),
    "ReferenceRequest": Forms(drift_messages.ReferenceRequest, None, schemas.ReferenceRequest, REFER | CLAIMS),
    "ReferenceEntry": Forms(
        drift_messages.ReferenceEntry, None, schemas.ReferenceEntry, client_decisions.ReferenceEntry
    ),
    "StatisticShift": Forms(
        drift_messages.StatisticShift, None, schemas.StatisticShift, client_decisions.StatisticShift
    ),
    "DriftEntry": Forms(drift_messages.DriftEntry, None, schemas.DriftEntry, client_decisions.DriftEntry),
    "DriftReply": Forms(drift_messages.DriftReply, None, schemas.DriftReply, client_decisions.DriftReply),
    "GuardOptions": Forms(
        messages.GuardOptions, pb.GuardOptions, request_schemas.GuardOptions, {"views": True, "explain": True}
    ),
    "GuardFlags": Forms(messages.GuardFlags, pb.GuardFlags, reply_schemas.GuardFlags, client.GuardFlags),
    "EmbedRequest": Forms(messages.EmbedRequest, pb.EmbedRequest, schemas.EmbedRequest, EMBED | CLAIMS),
    "EncodingSet": Forms(encoding_set.EncodingSet, pb.EncodingSet, schemas.EncodingSet, SETS),
    "DiversityRequest": Forms(
        set_messages.DiversityRequest, pb.DiversityRequest, schemas.DiversityRequest, DIVERSITY | CLAIMS
    ),
    "DistanceRequest": Forms(
        set_messages.DistanceRequest, pb.DistanceRequest, schemas.DistanceRequest, DISTANCE | CLAIMS
    ),
    "ReferenceSetRequest": Forms(
        set_messages.ReferenceSetRequest, pb.ReferenceSetRequest, schemas.ReferenceSetRequest, REFER_SET | CLAIMS
    ),
    "ReferenceSetEntry": Forms(
        set_messages.ReferenceSetEntry, pb.ReferenceSetEntry, schemas.ReferenceSetEntry, client_sets.ReferenceSetEntry
    ),
    "AuditRequest": Forms(audit_messages.AuditRequest, pb.AuditRequest, schemas.AuditRequest, AUDIT | CLAIMS),
    "Elements": Forms(audit_messages.Elements, pb.Elements, set_schemas.Elements, ELEMENTS),
    "AuditReply": Forms(audit_messages.AuditReply, pb.AuditReply, schemas.AuditReply, client_sets.AuditReply),
    "GroupShare": Forms(audit_messages.GroupShare, pb.GroupShare, set_schemas.GroupShare, client_sets.GroupShare),
    "ElementRates": Forms(
        audit_messages.ElementRates, pb.ElementRates, set_schemas.ElementRates, client_sets.ElementRates
    ),
    "Spread": Forms(Spread, pb.Spread, set_schemas.Spread, client_sets.Spread),
    "Guess": Forms(Guess, pb.Guess, set_schemas.Guess, client_sets.Guess),
    "Sce": Forms(Sce, pb.Sce, set_schemas.Sce, client_sets.Sce),
    "DiversityReply": Forms(
        set_messages.DiversityReply, pb.DiversityReply, schemas.DiversityReply, client_sets.DiversityReply
    ),
    "DistanceReply": Forms(
        set_messages.DistanceReply, pb.DistanceReply, schemas.DistanceReply, client_sets.DistanceReply
    ),
    "ReferenceSetsReply": Forms(
        None, pb.ListReferenceSetsReply, schemas.ReferenceSetsReply, client_sets.ReferenceSetsReply
    ),
    "Timing": Forms(messages.Timing, pb.Timing, reply_schemas.Timing, client.Timing),
    "Word": Forms(None, pb.Word, reply_schemas.Word, client.Word),
    "Answer": Forms(None, pb.Answer, reply_schemas.Answer, client.Answer),
    "FrameValues": Forms(None, None, reply_schemas.FrameValues, client.FrameValues),
    "ScoreValue": Forms(None, pb.ScoreValue, (reply_schemas.ScoreValue, reply_schemas.Failed), client.ScoreValue),
    "ItemResult": Forms(
        (messages.ItemScores, messages.ItemFailure),
        pb.ItemResult,
        (reply_schemas.ItemScores, reply_schemas.ItemFailure),
        client.ItemResult,
    ),
    "ItemVerdict": Forms(
        (messages.ItemVerdict, messages.ItemFailure),
        pb.ItemVerdict,
        (reply_schemas.ItemVerdict, reply_schemas.ItemFailure),
        client.ItemVerdict,
    ),
    "ScoreReply": Forms(messages.ScoreReply, pb.ScoreReply, schemas.ScoreReply, client.ScoreReply),
    "FilterReply": Forms(messages.FilterReply, pb.FilterReply, schemas.FilterReply, client.FilterReply),
    "Ranked": Forms(messages.Ranked, pb.Ranked, schemas.Ranked, client.Ranked),
    "IndexedProblem": Forms(None, pb.IndexedError, reply_schemas.IndexedProblem, client.IndexedProblem),
    "RankReply": Forms(messages.RankReply, pb.RankReply, schemas.RankReply, client.RankReply),
    "EmbedReply": Forms(messages.EmbedReply, pb.EmbedReply, schemas.EmbedReply, client.EmbedReply),
    "ScorerEntry": Forms(messages.ScorerEntry, pb.ScorerEntry, schemas.ScorerEntry, client.ScorerEntry),
    "EncoderEntry": Forms(messages.EncoderEntry, pb.EncoderEntry, schemas.EncoderEntry, client.EncoderEntry),
    "ScorersReply": Forms(None, pb.ListScorersReply, schemas.ScorersReply, client.ScorersReply),
    "ModelsReply": Forms(None, pb.ListModelsReply, schemas.ModelsReply, client.ModelsReply),
    "Problem": Forms(None, None, schemas.Problem, client_problems.Problem),
    "FieldFault": Forms(None, None, reply_schemas.FieldFault, client_problems.FieldProblem),
}
EXCEPTIONS = {
    ("Item", "image"): ("proto client", "a key has a field of its own; the client makes keys, of what items share"),
    ("Item", "image_key"): ("message rest client", "JSON tells a key from a source by its type, protobuf by a field"),
    ("Item", "reference_image"): ("proto client", "as `image`"),
    ("Item", "reference_image_key"): ("message rest client", "as `image_key`"),
    ("RawImage", "data"): ("rest", "the bytes are a part of the form"),
    ("FilterRequest", "policy"): ("message", "the list that the wires wrap in `all`"),
    ("RankRequest", "text"): ("message", "one of `texts`"),
    ("RankRequest", "image"): ("message", "one of `images`"),
    ("EmbedRequest", "encoding"): ("message proto", "how JSON writes vectors; protobuf has bytes"),
    ("ScoreValue", "details"): ("rest client", "JSON has them beside `value`"),
    ("ScoreValue", "frames"): ("proto", "among its `details`"),
    ("ItemResult", "status"): ("message proto", "JSON's word for whether there is an error"),
    ("ItemVerdict", "status"): ("message proto", "JSON's word for whether there is an error"),
    ("ScoreReply", "request_id"): ("message", "the edge's"),
    ("FilterReply", "request_id"): ("message", "the edge's"),
    ("RankReply", "request_id"): ("message", "the edge's"),
    ("EmbedReply", "request_id"): ("message", "the edge's"),
    ("DiversityReply", "request_id"): ("message", "the edge's"),
    ("DistanceReply", "request_id"): ("message", "the edge's"),
    ("AuditReply", "request_id"): ("message", "the edge's"),
    ("AuditReply", "errors"): ("message", "as those of `RankReply`"),
    ("DiversityReply", "errors"): ("message", "as those of `RankReply`"),
    ("DistanceReply", "errors_a"): ("message", "as those of `RankReply`"),
    ("DistanceReply", "errors_b"): ("message", "as those of `RankReply`"),
    ("DiversityRequest", "equal_only"): ("message rest client", "JSON's null in the place of `near_duplicate`"),
    ("SelectReply", "request_id"): ("message", "the edge's"),
    ("SelectReply", "errors"): ("message", "as of RankReply"),
    ("SelectReply", "probabilities"): ("proto", "beside the values: protobuf has no lists that hold nothing in places"),
    ("RankReply", "errors"): ("message", "by index; the wires have a list of entries with one"),
    ("EmbedReply", "encoder"): ("rest", "is called `model` there"),
    ("EmbedReply", "model"): ("message proto client", "what REST calls `encoder`"),
    ("EmbedReply", "encoding"): ("message proto client", "how JSON writes vectors; the others have bytes"),
    ("Problem", "retry_after_ms"): ("client", "also takes a fraction, from a header"),
}
"""By message and field: who has it otherwise or not at all, and why."""
APART = {
    # An image is what each wire carries best: bytes, base64, the name of a part, an address.
    "ImageSource", "EncodedImage", "Base64Image", "UrlImage", "BrokenImage",
    # A frame is a key or an image, which JSON tells apart by their types.
    "Frame",
    # A vector is bytes in protobuf, and base64 or a list in JSON, which the client reads into bytes.
    "Embedding",
    # Lists of numbers with gaps in protobuf, and what REST alone answers.
    "SelectValue", "GroupLabel", "MemberGroup", "Interval", "CalibrationReply", "CalibrationsReply", "Deleted",
    "ClassifierReply", "ClassifiersReply", "ReferenceReply", "ReferencesReply",
    "ReferenceSetReply",
    # Streams are gRPC's alone; lists are asked for with nothing, and REST's path names what is deleted.
    "ScoreStreamRequest", "ScoreStreamReply", "ListScorersRequest", "ListModelsRequest", "ListReferenceSetsRequest",
    "DeleteReferenceSetRequest", "DeleteReferenceSetReply",
    # Bases of other classes, and parts of those compared.
    "Strict", "Request", "ItemProblem", "ReplyModel", "TimedReply",
}  # fmt: skip
OTHER_NAMES = {
    "ItemScores": "ItemResult", "ItemFailure": "ItemResult", "Failed": "ScoreValue", "RawShape": "RawImage",
    "IndexedError": "IndexedProblem", "ListScorersReply": "ScorersReply", "ListModelsReply": "ModelsReply",
    "FieldProblem": "FieldFault", "ListReferenceSetsReply": "ReferenceSetsReply",
}  # fmt: skip
_BARE: dict[Any, Any] = {list: list[Any], dict: dict[str, Any]}
_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number", bytes: "bytes"}
_PROTO_KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "string",
    FieldDescriptor.CPPTYPE_ENUM: "string",
    FieldDescriptor.CPPTYPE_BOOL: "boolean",
    FieldDescriptor.CPPTYPE_UINT32: "integer",
    FieldDescriptor.CPPTYPE_UINT64: "integer",
    FieldDescriptor.CPPTYPE_DOUBLE: "number",
    FieldDescriptor.CPPTYPE_MESSAGE: "object",
}


def kinds(hint: Any) -> Kinds:
    origin = get_origin(hint)
    if origin is Annotated:
        return kinds(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return frozenset[str]().union(*map(kinds, get_args(hint)))
    if origin is Literal:
        return kinds(type(get_args(hint)[0]))
    if origin is not None and issubclass(origin, Mapping | Sequence):
        return frozenset({"object" if issubclass(origin, Mapping) else "array"})
    return frozenset() if hint is type(None) else frozenset({_SCALARS.get(hint, "object")})


def proto_kind(field: FieldDescriptor) -> Kinds:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if field.is_repeated and not is_map:
        return frozenset({"array"})
    if field.type == FieldDescriptor.TYPE_BYTES:
        return frozenset({"bytes"})
    return frozenset({_PROTO_KINDS[field.cpp_type]})


def described(form: Any) -> dict[str, Kinds]:
    """The fields of a form of a message, with their types."""
    if isinstance(form, tuple):
        return {name: kind for each in form for name, kind in described(each).items()}
    if isinstance(form, dict):
        plain = {name: type(value) for name, value in form.items()}
        return {name: kinds(_BARE.get(kind, kind)) for name, kind in plain.items()}
    if hasattr(form, "DESCRIPTOR"):
        return {field.name: proto_kind(field) for field in form.DESCRIPTOR.fields}
    if issubclass(form, BaseModel):
        return {name: kinds(field.annotation) for name, field in form.model_fields.items()}
    hints = get_type_hints(form)
    return {field.name: kinds(hints[field.name]) for field in fields(form)}


def compared(name: str) -> Iterator[tuple[str, dict[str, Kinds | None]]]:
    """Each field of a message, with its types by who has it."""
    forms = {who.name: getattr(FORMS[name], who.name) for who in fields(Forms)}
    found = {who: described(form) for who, form in forms.items() if form is not None}
    for field in dict.fromkeys(field for each in found.values() for field in each):
        yield field, {who: each.get(field) for who, each in found.items()}


@pytest.mark.parametrize("name", FORMS)
def test_a_message_has_the_same_fields_everywhere(name: str) -> None:
    for field, by_form in compared(name):
        excepted = EXCEPTIONS.get((name, field), ("", ""))[0].split()
        same = {kind for who, kind in by_form.items() if who not in excepted}
        assert len(same) == 1, (field, by_form)
        assert None not in same, (field, by_form)
        for who in excepted:
            assert by_form[who] not in same, f"{name}.{field} of {who} is no exception"


def test_exceptions_are_of_fields_that_there_are() -> None:
    assert set(EXCEPTIONS) <= {(name, field) for name in FORMS for field, _ in compared(name)}


def test_every_message_is_compared_or_said_to_stand_apart() -> None:
    modules = [messages, request_schemas, reply_schemas, client, client_problems]
    modules += [audit_messages, encoding_set, set_messages, set_schemas, client_sets]
    modules += [decision_messages, decision_schemas]
    classes = [each for module in modules for _, each in inspect.getmembers(module, inspect.isclass)]
    own = {
        each.__name__
        for each in classes
        if (is_dataclass(each) or issubclass(each, BaseModel)) and each.__module__.startswith("plumbline")
    }
    named = {name for name in own if not name.startswith("_")} | set(pb.DESCRIPTOR.message_types_by_name)
    # Of plumbline_models: what `ScoreValue` is on the wires, and what `DiversityReply` has besides its own.
    elsewhere = {"Score", "Diversity"}
    assert {OTHER_NAMES.get(name, name) for name in named} - APART - elsewhere == set(FORMS)
