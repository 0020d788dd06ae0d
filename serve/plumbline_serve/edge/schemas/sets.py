"""The bodies of REST's requests and replies about sets; as `requests` and `replies`, of which these are a part."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, create_model, model_validator

from plumbline_models.sets import audit, zero_shot
from plumbline_models.sets import sce as sets
from plumbline_models.sets.distances import DEFAULT_SIGMA
from plumbline_models.sets.measures import NEAR_DUPLICATE
from plumbline_models.sets.zero_shot import MARGIN
from plumbline_serve.edge.rules import choice_fault
from plumbline_serve.edge.schemas.base import Request, Strict, given, refuse
from plumbline_serve.edge.schemas.example_images import EXAMPLE_IMAGE, OTHER_IMAGE
from plumbline_serve.edge.schemas.replies import INDEXED_PROBLEMS, REPLY, BoundTo, schema_of
from plumbline_serve.edge.schemas.requests import ImageSource
from plumbline_serve.edge.set_values import (
    AuditCompat,
    ElementNames,
    EncoderName,
    FromZeroToOne,
    GroupText,
    KeptEncoderName,
    Labels,
    OfSet,
    OrderOrWord,
    Orders,
    Pair,
    PerGroup,
    RbfSigma,
    Sha256,
    Vector,
    Weight,
    kept_set_fault,
    set_fault,
)
from plumbline_serve.edge.values import ArtefactName
from plumbline_serve.messages import audits as audit_messages
from plumbline_serve.messages import sets as set_messages

_ORDERS: list[Literal["inf"] | float] = [1.0, 2.0, "inf"]
_ONE_FORM: dict[str, JsonValue] = {
    "oneOf": [
        given("images", without=("embeddings", "hashes", "encoder")),
        given("hashes", without=("images", "embeddings", "encoder")),
        given("embeddings", without=("images", "hashes")),
    ]
}


class EncodingSet(Strict):
    """A set of images: exactly one of `images`, `embeddings` and `hashes`."""

    model_config = ConfigDict(json_schema_extra=_ONE_FORM)

    images: OfSet[ImageSource] | None = Field(None, description="Encoded here, with the service's caches and batches.")
    embeddings: OfSet[Vector] | None = Field(
        None,
        description="Encodings of one length, which may be any: each a list of numbers, or base64 of little-endian "
        "float32, as `/v1/embed` answers them.",
    )
    hashes: OfSet[Sha256] | None = Field(
        None,
        description="SHA-256 in hex of image files sent before. The service keeps encodings as long as its caches have "
        "room; of one that it does not keep it says so.",
    )
    encoder: EncoderName | None = Field(
        None, description="With `embeddings`: what made them. Sets of encoders with two names are not compared."
    )

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        refuse(set_fault(self.images, self.embeddings, self.hashes, self.encoder))
        return self


class DiversityRequest(Request, EncodingSet):
    """How many different images a set holds, and which are the same."""

    model_config = ConfigDict(
        json_schema_extra={
            **_ONE_FORM,
            "examples": [{"images": [EXAMPLE_IMAGE, OTHER_IMAGE], "orders": [1, 2, "inf"], "near_duplicate": 0.98}],
        }
    )

    texts: OfSet[str] | None = Field(None, description="The prompt of each member, for SCE.")
    weights: OfSet[Weight] | None = Field(None, description="How much each member counts in the Vendi score.")
    orders: Orders[OrderOrWord] = Field(
        default_factory=lambda: [*_ORDERS],
        description="Of the Vendi score: the larger, the less rare images count.",
    )
    near_duplicate: FromZeroToOne | None = Field(
        NEAR_DUPLICATE, description="Least cosine of near-duplicates; null: only equal members are found."
    )
    scorer: str | None = Field(None, description="Whose encoders; by default the first loaded scorer's that has both.")


class DistanceRequest(Request):
    """How far a set is from another one, or from one that is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [given("b", without=("reference",)), given("reference", without=("b",))],
            "examples": [{"a": {"embeddings": [[1, 0], [0.6, 0.8]]}, "b": {"embeddings": [[0, 1], [0.8, 0.6]]}}],
        }
    )

    a: EncodingSet
    b: EncodingSet | None = None
    reference: ArtefactName | None = Field(
        None, description="In place of `b`: the name of a set that is kept, see `POST /v1/sets/references`."
    )
    rbf_sigma: RbfSigma = Field(
        DEFAULT_SIGMA, description="Width of the Gaussian kernel, in lengths between unit vectors."
    )
    scorer: str | None = Field(
        None,
        description="Whose encoder; by default that of the reference, else the first loaded scorer's that has both.",
    )

    @model_validator(mode="after")
    def _check_other(self) -> Self:
        refuse(choice_fault(b=self.b, reference=self.reference))
        return self


class ReferenceSetRequest(Request, EncodingSet):
    """Keep a set under a name, for others to be compared with. Embeddings need `encoder`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                given("images", without=("embeddings", "hashes", "encoder")),
                given("hashes", without=("images", "embeddings", "encoder")),
                given("embeddings", "encoder", without=("images", "hashes")),
            ],
            "examples": [{"name": "launch", "images": [EXAMPLE_IMAGE, OTHER_IMAGE]}],
        }
    )

    name: ArtefactName = Field(description="By which `distance` uses it. One of the same name is replaced.")
    encoder: KeptEncoderName | None = Field(
        None, description="With `embeddings`, which need it: what made them. Sets of another are refused."
    )
    scorer: str | None = Field(None, description="Whose encoder; by default the first loaded scorer's that has both.")

    @model_validator(mode="after")
    def _check_encoder(self) -> Self:
        refuse(kept_set_fault(self.embeddings, self.encoder))
        return self


class Elements(Strict):
    """What each of `images` is asked about, `Is there a …?`, by the scorer `questions`."""

    explicit: ElementNames = Field(default_factory=list, description="Named by the prompt.")
    implied: ElementNames = Field(default_factory=list, description="Part of what the prompt means.")
    forbidden: ElementNames = Field(default_factory=list, description="What no image should show.")
    markers: ElementNames = Field(default_factory=list, description="Of the culture that is meant; one is enough.")


class AuditRequest(Request):
    """How evenly a set is spread over groups that the caller declares, and which elements it shows."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [given("labels", without=("prompts",)), given("prompts", without=("labels",))],
            "examples": [{"groups": ["day", "night"], "labels": ["day", "day", None, "night"]}],
        }
    )

    images: OfSet[ImageSource] | None = Field(None, description="As of a set.")
    embeddings: OfSet[Vector] | None = Field(None, description="As of a set.")
    hashes: OfSet[Sha256] | None = Field(None, description="As of a set.")
    encoder: EncoderName | None = Field(None, description="As of a set.")
    groups: PerGroup[GroupText] = Field(description="All that there may be, those that are absent too.")
    labels: Labels | None = Field(
        None, description="The group of each member, null where nobody can tell. Then the set itself need not be sent."
    )
    prompts: PerGroup[str] | None = Field(
        None, description="A text for each group: each member gets the label of the nearest, if it is far enough ahead."
    )
    margin: FromZeroToOne = Field(
        MARGIN,
        description="By how much the best group's probability has to be above the second; else there is no label.",
    )
    pair: Pair | None = Field(
        None, description="The two groups whose gap is meant; by default the largest and the smallest."
    )
    wanted: PerGroup[Weight] | None = Field(
        None, description="The share that each group should have, for the skews; by default all even."
    )
    association: FromZeroToOne | None = Field(
        None, description="Share of the stereotypical among what is stereotypical or diverse, for the composite."
    )
    elements: Elements | None = Field(None, description="What `images` are asked about.")
    compat: AuditCompat | None = Field(
        None, description="`official`: groups are those that were seen, as T2I-BiasBench's program has it."
    )
    scorer: str | None = Field(None, description="Whose encoders; by default the first loaded scorer's that has both.")

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        refuse(choice_fault(labels=self.labels, prompts=self.prompts))
        return self


Sce = schema_of(sets.Sce)
Spread = schema_of(audit.Spread)
Guess = schema_of(zero_shot.Guess)
GroupShare = schema_of(audit_messages.GroupShare)
ElementRates = schema_of(audit_messages.ElementRates)
AuditReply = schema_of(
    audit_messages.AuditReply,
    groups=list[GroupShare],  # type: ignore[valid-type]
    spread=Spread | None,
    elements=ElementRates | None,
    guesses=Annotated[list[Guess], Field(default_factory=list)],  # type: ignore[valid-type]
    errors=INDEXED_PROBLEMS,
    **REPLY,
)
DiversityReply = schema_of(set_messages.DiversityReply, sce=Sce | None, errors=INDEXED_PROBLEMS, **REPLY)
DistanceReply = schema_of(set_messages.DistanceReply, errors_a=INDEXED_PROBLEMS, errors_b=INDEXED_PROBLEMS, **REPLY)
ReferenceSetEntry = schema_of(set_messages.ReferenceSetEntry, bound_to=BoundTo)
ReferenceSetReply = create_model(
    "ReferenceSetReply", __base__=ReferenceSetEntry, __doc__="A set that is kept now.", request_id=(str, ...)
)
ReferenceSetsReply = create_model(
    "ReferenceSetsReply",
    __doc__="Every set that is kept, by name.",
    sets=(list[ReferenceSetEntry], ...),  # type: ignore[valid-type]
)
