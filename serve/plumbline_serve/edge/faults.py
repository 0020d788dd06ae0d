"""What is wrong with a request, field by field, in the words that its caller reads: the same for REST and gRPC."""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from plumbline_models.core.errors import InvalidFieldError

T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)
Location: TypeAlias = tuple[int | str, ...]
"""The names and indices that lead to a field."""

_MAX_LISTED = 16  # faults in a reply: the first ones say enough, and gRPC has 8 KiB for all of an error
_MAX_COUNTED = 1000
_MAX_POINTER_BYTES = 120
_IMAGE_KIND = 3  # where, below /items/N/image, pydantic names which of an image's two forms it tried
_ITEM_IMAGES = frozenset({"image", "reference_image"})
_FRAME_KIND = 4  # the same below /items/N/frames/M
_SET_FIELDS = frozenset({"embeddings", "orders", "a", "b"})
_SET_KINDS = frozenset({"base64", "numbers", "word", "number"})  # where, below these, pydantic names a form it tried
_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be below {lt:g}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
}
"""By pydantic's kind of error; ours carry their own sentence."""
_ALSO_CALLED = {"prompt": "text", "caption": "text", "prompts": "texts", "captions": "texts", "base64": "b64"}
"""What other services call our fields."""


class Faults:
    """What is wrong with a request, collected field by field and refused as one."""

    def __init__(self) -> None:
        self.num = 0
        self._listed: list[dict[str, str]] = []

    def add(self, location: Location, reason: str | None) -> None:
        """Note what is wrong with a field.

        Args:
            location: Where it is.
            reason: What is wrong with it; None: nothing.
        """
        if reason is None:
            return
        self.num += 1
        if len(self._listed) < _MAX_LISTED:
            self._listed.append({"pointer": pointer(location), "detail": reason})

    def add_invalid(self, error: ValidationError, location: Location = ()) -> None:
        """Note what pydantic found wrong.

        Args:
            error: What it raised.
            location: Where the value is that it was given.
        """
        found: Sequence[ErrorDetails] = ()
        if error.error_count() <= _MAX_COUNTED:  # listing more would hold up everybody else
            found = error.errors(include_url=False, include_input=False)
        for each in found:
            self.add((*location, *_without_kind(each["loc"])), _reason(each))
        self.num += error.error_count() - len(found)

    def check(self, kind: TypeAdapter[Any], value: T, location: Location) -> T:
        """Hold a value against its type.

        Args:
            kind: What the value must be.
            value: None stands for one that is not given.
            location: Where it is.

        Returns:
            The value as it is.
        """
        if value is not None:
            try:
                kind.validate_python(value, strict=True)
            except ValidationError as error:
                self.add_invalid(error, location)
        return value

    def refuse(self) -> None:
        """Refuse the request if anything is wrong with it.

        Raises:
            InvalidFieldError: Something is.
        """
        if self.num:
            raise self.error()

    def error(self) -> InvalidFieldError:
        """The refusal, which lists the first faults; none where there are thousands."""
        listed = [] if self.num > _MAX_COUNTED else self._listed
        first = listed[0] if listed else {"pointer": "", "detail": f"is wrong in {self.num} places"}
        where = first["pointer"] or "it"
        return InvalidFieldError(f"The request is not as the schema says: {where} {first['detail']}.", errors=listed)


def read_as(document: Any, schema: type[S]) -> S:
    """A document as a schema has it.

    Args:
        document: What the JSON holds.
        schema: Of what the route takes.

    Raises:
        InvalidFieldError: It does not fit.
    """
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        faults = Faults()
        faults.add_invalid(error)
        raise faults.error() from error


def pointer(location: Location) -> str:
    """The JSON pointer (RFC 6901) of a location, cut where a name in it is very long."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in location)
    return "".join(f"/{step}" for step in steps).encode()[:_MAX_POINTER_BYTES].decode(errors="ignore")


def _without_kind(location: Location) -> Location:
    if location and location[0] in _SET_FIELDS:
        return tuple(step for step in location if step not in _SET_KINDS)
    if len(location) > _FRAME_KIND and location[0] == "items" and location[2] == "frames":
        return (*location[:_FRAME_KIND], *location[_FRAME_KIND + 1 :])
    is_image_of_item = len(location) > _IMAGE_KIND and location[0] == "items" and location[2] in _ITEM_IMAGES
    return (*location[:_IMAGE_KIND], *location[_IMAGE_KIND + 1 :]) if is_image_of_item else location


def _reason(fault: ErrorDetails) -> str:
    reason, context = _REASONS.get(fault["type"]), fault.get("ctx", {})
    if fault["type"] == "extra_forbidden" and (meant := _ALSO_CALLED.get(str(fault["loc"][-1]))):
        return f"{reason} (did you mean {meant}?)"
    if context.get("min_length") == 1:
        return "must not be empty"
    return fault["msg"] if reason is None else reason.format_map(context)
