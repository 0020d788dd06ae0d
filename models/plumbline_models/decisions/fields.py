"""What is said of a field that a decision cannot be made from."""

from plumbline_models.core.errors import InvalidFieldError


def invalid(pointer: str, detail: str) -> InvalidFieldError:
    """The error of a field.

    Args:
        pointer: JSON pointer to it, or to the entry of it that is wrong.
        detail: What is wrong, as the end of a sentence that begins with the field.
    """
    name = pointer.split("/")[1]
    return InvalidFieldError(f"The field {name} {detail}.", errors=[{"pointer": pointer, "detail": detail}])
