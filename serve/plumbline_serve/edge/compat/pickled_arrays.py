"""Numpy arrays of texts in a pickle, read without numpy and without looking anything up.

One client of flow_grpo sends its prompts so: as names of numpy's, what they are called with, and the texts as UTF-32.
A name is compared with the six below and stands for itself; calling it makes a description of a type or of an array,
and what is built of that is checked member by member. So nothing that a pickle says is imported or run, and anything
but a one-dimensional array of texts is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from plumbline_models.core.errors import MalformedRequestError

Name: TypeAlias = Literal["reconstruct", "from_buffer", "ndarray", "dtype"]
_CORES: Final = ("numpy.core", "numpy._core")
"""Of numpy 1 and 2."""
_NAMES: Final[Mapping[tuple[str, str], Name]] = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{(f"{core}.multiarray", "_reconstruct"): "reconstruct" for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): "from_buffer" for core in _CORES},
}
_TYPE: Final = re.compile(r"U([1-9]\d{0,6})")
_CHARACTER_BYTES: Final = 4
_STATE_VERSIONS: Final = (3, 1)
"""Of a type's state and of an array's."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name that a pickle may hold, and nothing behind it."""

    name: Name


@dataclass(slots=True)
class TextType:
    """The type of an array's elements."""

    num_characters: int
    is_built: bool = False

    @property
    def element_bytes(self) -> int:
        """Of one element, whatever its text."""
        return self.num_characters * _CHARACTER_BYTES


@dataclass(frozen=True, slots=True)
class EmptyArray:
    """An array before its state is known."""


def named(module: Any, name: Any) -> Named:
    """The name that a pickle has.

    Args:
        module: As it stands there.
        name: The same.

    Raises:
        MalformedRequestError: It is none that an array of texts needs.
    """
    found = _NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
    if found is None:
        raise MalformedRequestError("The pickle names something, and holds more than plain values and arrays of texts.")
    return Named(found)


def called(target: Any, arguments: Any, *, most: int) -> TextType | EmptyArray | list[str]:
    """What a name makes of its arguments; numpy is not asked.

    Args:
        target: What is called.
        arguments: A tuple.
        most: Texts that an array may have.

    Raises:
        MalformedRequestError: It makes no array of texts, nor a part of one.
    """
    match target, arguments:
        case Named("dtype"), (str(code), False, True) if (found := _TYPE.fullmatch(code)) is not None:
            return TextType(int(found[1]))
        case Named("reconstruct"), (Named("ndarray"), (0,), b"b"):
            return EmptyArray()
        case Named("from_buffer"), (bytearray(content), TextType() as kind, (int(num),), "C"):
            return _texts(bytes(content), kind, num, most=most)
    raise _no_array()


def built(target: Any, state: Any, *, most: int) -> TextType | list[str]:
    """A type or an array of which the state is known.

    Args:
        target: As `called` made it.
        state: A tuple.
        most: Texts that an array may have.

    Raises:
        MalformedRequestError: The state is not that of texts.
    """
    of_type, of_array = _STATE_VERSIONS
    match target, state:
        case TextType(), (version, "<", None, None, None, int(size), int(), int()) if (
            version == of_type and size == target.element_bytes
        ):
            return TextType(target.num_characters, is_built=True)
        case EmptyArray(), (version, (int(num),), TextType() as kind, False, bytes(content)) if version == of_array:
            return _texts(content, kind, num, most=most)
    raise _no_array()


def _texts(content: bytes, kind: TextType, num: int, *, most: int) -> list[str]:
    size = kind.element_bytes
    if not kind.is_built or not 0 <= num <= most or len(content) != num * size:
        raise _no_array()
    try:
        return [content[at * size : (at + 1) * size].decode("utf-32-le").rstrip("\0") for at in range(num)]
    except UnicodeDecodeError as error:
        raise MalformedRequestError("The pickle holds an array of texts that are no Unicode.") from error


def _no_array() -> MalformedRequestError:
    return MalformedRequestError("The pickle holds an array that is not one-dimensional and of texts.")
