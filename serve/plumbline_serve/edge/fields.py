"""Documents to schemas, and what does not fit to JSON pointers with reasons."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.requests.validation import Checks
from plumbline_serve.settings import Limits

Body = TypeVar("Body", bound=BaseModel)

_COUNTED = ("items", "images", "texts")
_MAX_FAULTS = 16  # that an answer lists: the first ones say enough, and gRPC has 8 KiB for all of an error
_MAX_COUNTED = 1000
_MAX_POINTER_BYTES = 120
_IMAGE_KIND = 3  # where, below /items/N/image, pydantic names which of an image's two forms it tried
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
    "greater_than_equal": "must be at least {ge}",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
}
"""By pydantic's kind of error; ours carry their own sentence."""


def read_document(document: Any, schema: type[Body], limits: Limits) -> Body:
    """Read a document as a schema.

    Raises:
        TooManyItemsError: It holds more items, images or texts than allowed; looked at first, for reading each
            of millions would hold up everybody else.
        InvalidFieldError: It does not fit.
    """
    if isinstance(document, dict):
        for name in _COUNTED:
            _check_count(document.get(name), limits)
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        faults = _faults(error)
        first = faults[0] if faults else {"pointer": "", "detail": f"is wrong in {error.error_count()} places"}
        where = first["pointer"] or "it"
        raise InvalidFieldError(
            f"The request is not as the schema says: {where} {first['detail']}.", errors=faults
        ) from error


def _check_count(entries: Any, limits: Limits) -> None:
    if isinstance(entries, list | dict) and len(entries) > limits.max_items:
        Checks(limits, {}).count(len(entries))


def _faults(error: ValidationError) -> list[dict[str, str]]:
    """The first faults; none where there are so many that listing them would hold up everybody else."""
    if error.error_count() > _MAX_COUNTED:
        return []
    found = error.errors(include_url=False, include_input=False)[:_MAX_FAULTS]
    return [{"pointer": pointer(each["loc"]), "detail": _reason(each)} for each in found]


def pointer(loc: Sequence[int | str]) -> str:
    """The JSON pointer (RFC 6901) of pydantic's location, cut where a name in it is very long."""
    is_image_of_item = len(loc) > _IMAGE_KIND and loc[0] == "items" and loc[2] == "image"
    path = (*loc[:_IMAGE_KIND], *loc[_IMAGE_KIND + 1 :]) if is_image_of_item else loc
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "".join(f"/{step}" for step in steps).encode()[:_MAX_POINTER_BYTES].decode(errors="ignore")


def _reason(fault: ErrorDetails) -> str:
    reason = _REASONS.get(fault["type"])
    return fault["msg"] if reason is None else reason.format_map(fault.get("ctx", {}))
