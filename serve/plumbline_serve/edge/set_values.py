"""What the values of requests about sets must be, the same for REST and gRPC; `parsing` has those of all others."""

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticKnownError

from plumbline_models.sets.distances import LEAST_SIGMA, MOST_SIGMA
from plumbline_models.sets.diversity import LEAST_ORDER, MOST_ORDER
from plumbline_models.sets.vectors import MAX_DIM, MAX_SET
from plumbline_serve.edge.rules import choice_fault
from plumbline_serve.edge.values import MAX_NAME_CHARS, MAX_NUMBER, Finite

T = TypeVar("T")

MAX_ORDERS = 16
MAX_ENCODER_CHARS = 256
MAX_GROUPS = 64
MAX_ELEMENTS = 64  # of each kind


def _within_a_set(value: Any) -> Any:
    """Refuse too many before they are read, which would hold up everybody else."""
    if isinstance(value, list) and len(value) > MAX_SET:
        kind: dict[str, Any] = {"field_type": "List", "max_length": MAX_SET, "actual_length": len(value)}
        raise PydanticKnownError("too_long", kind)
    return value


def _vector_kind(value: Any) -> str | None:
    return "base64" if isinstance(value, str) else "numbers" if isinstance(value, list) else None


def _order_kind(value: Any) -> str:
    return "word" if isinstance(value, str) else "number"


OfSet: TypeAlias = Annotated[list[T], Field(max_length=MAX_SET), BeforeValidator(_within_a_set)]
Vector: TypeAlias = Annotated[
    Annotated[str, Tag("base64")] | Annotated[list[Finite], Field(min_length=1, max_length=MAX_DIM), Tag("numbers")],
    Discriminator(_vector_kind, custom_error_type="vector", custom_error_message="must be an array or a string"),
]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
EncoderName: TypeAlias = Annotated[str, Field(max_length=MAX_ENCODER_CHARS)]
KeptEncoderName: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_ENCODER_CHARS)]
Order: TypeAlias = Annotated[float, Field(ge=LEAST_ORDER, le=MOST_ORDER, allow_inf_nan=False)]
OrderOrWord: TypeAlias = Annotated[
    Annotated[Literal["inf"], Tag("word")] | Annotated[Order, Tag("number")], Discriminator(_order_kind)
]
Orders: TypeAlias = Annotated[list[T], Field(min_length=1, max_length=MAX_ORDERS)]
FromZeroToOne: TypeAlias = Annotated[Finite, Field(ge=0, le=1)]
RbfSigma: TypeAlias = Annotated[Finite, Field(ge=LEAST_SIGMA, le=MOST_SIGMA)]
Weight: TypeAlias = Annotated[Finite, Field(gt=0, le=MAX_NUMBER)]
GroupText: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
Labels: TypeAlias = Annotated[OfSet[GroupText | None], Field(min_length=1)]
ElementNames: TypeAlias = Annotated[list[GroupText], Field(max_length=MAX_ELEMENTS)]
PerGroup: TypeAlias = Annotated[list[T], Field(min_length=2, max_length=MAX_GROUPS)]
Pair: TypeAlias = Annotated[list[GroupText], Field(min_length=2, max_length=2)]
AuditCompat: TypeAlias = Literal["official"]


def set_fault(images: object, embeddings: object, hashes: object, encoder: object) -> str | None:
    """What is wrong with a set whose fields are right by themselves; None stands for one that is not given."""
    fault = choice_fault(images=images, embeddings=embeddings, hashes=hashes)
    if fault is None and encoder is not None and embeddings is None:
        return "may have encoder only beside embeddings"
    return fault


def kept_set_fault(embeddings: object, encoder: object) -> str | None:
    """What is wrong with a set that is to be kept; None stands for a field that is not given."""
    is_unnamed = embeddings is not None and encoder is None
    return "must have encoder beside embeddings that are kept" if is_unnamed else None
