"""Reads a pickle of plain values, and runs nothing: every opcode is looked at before anything is built.

The module `pickle` is not used. Opcodes come from `pickletools`, which knows how each one's argument is written; a pass
over all of them refuses those that are not on the list, and bounds what the others claim, before a second pass builds
dicts, lists, tuples and plain values on a stack of its own. There is no opcode on the list for a class, a persistent or
extension id, or a buffer out of band; those that name and call are read for arrays of texts alone, and look nothing up
(`pickled_arrays`).

Arguments are cut out of the body, so what they claim and the body does not have is never allocated (`pickle` itself
asks for 8 GiB where 11 bytes say so). A container that stands in another one is not changed any more, so that nothing
holds itself, and its depth is known.
"""

import io
import pickletools  # nosec B403  # its table of opcodes; nothing is unpickled
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.edge.compat.pickled_arrays import built, called, named

PROTOCOLS = (4, 5)
"""What clients send: the default of Python 3.8 to 3.13, and the one after it."""
MAX_DEPTH = 16
"""Containers within each other; requests have four."""
FIRST_BYTE = b"\x80"
"""Of a pickle of any protocol from 2 on."""

_WITH_LENGTHS: Mapping[str, int] = {
    "SHORT_BINBYTES": 1,
    "BINBYTES": 4,
    "SHORT_BINUNICODE": 1,
    "BINUNICODE": 4,
    "LONG1": 1,
    "BYTEARRAY8": 8,
}
"""Bytes of the little-endian length that an argument begins with."""
_PLAIN = frozenset({"BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1"})
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES: Mapping[str, int] = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = frozenset({"BINGET", "LONG_BINGET"})
ALLOWED = (
    frozenset({"PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "TUPLE"})
    | frozenset({"EMPTY_DICT", "EMPTY_LIST", "APPEND", "APPENDS", "SETITEM", "SETITEMS"})
    | _GETS
    | (_WITH_LENGTHS.keys() - {"BYTEARRAY8"})
    | _PLAIN
    | _CONSTANTS.keys()
    | _TUPLES.keys()
)
"""All that the clients' own requests are made of, but for one that sends arrays."""
OF_ARRAYS = frozenset({"STACK_GLOBAL", "REDUCE", "BUILD", "BYTEARRAY8"})
"""What an array of texts is made of besides."""

_BY_CODE = {opcode.code: opcode for opcode in pickletools.opcodes}
_Opcode: TypeAlias = tuple[str, Any]


def read_pickle(body: bytes | bytearray, *, max_opcodes: int) -> Any:
    """The plain value that a pickle holds.

    Args:
        body: All of it.
        max_opcodes: How many it may have.

    Raises:
        MalformedRequestError: It is no pickle, is not complete, or holds more than plain values.
        RequestTooLargeError: It has more opcodes.
    """
    for _ in _opcodes(body, max_opcodes):
        pass
    return _Builder(max_texts=max_opcodes).build(_opcodes(body, max_opcodes))


def _opcodes(body: bytes | bytearray, max_opcodes: int) -> Iterator[_Opcode]:
    """The opcodes by name with their arguments; one that is not allowed is refused before its argument is read."""
    whole, stream = memoryview(body), io.BytesIO(body)
    for number in range(max_opcodes):
        code = stream.read(1)
        opcode = _BY_CODE.get(code.decode("latin-1"))
        if opcode is None:
            raise MalformedRequestError("The pickle breaks off, or holds what is no opcode.")
        if opcode.name not in ALLOWED | OF_ARRAYS:
            raise MalformedRequestError(f"The pickle holds more than plain values: {opcode.name} is not read.")
        if (number == 0) != (opcode.name == "PROTO"):
            raise MalformedRequestError("A pickle says its protocol first, and once.")
        argument = _argument(opcode, whole, stream)
        yield opcode.name, argument
        if opcode.name == "STOP":
            if stream.tell() != len(whole):
                raise MalformedRequestError("The body goes on behind the pickle.")
            return
    raise RequestTooLargeError(f"The pickle has more than the {max_opcodes} opcodes that its limits allow.")


def _argument(opcode: pickletools.OpcodeInfo, whole: memoryview, stream: io.BytesIO) -> Any:
    start, left = stream.tell(), len(whole) - stream.tell()
    width = _WITH_LENGTHS.get(opcode.name, 0)
    if width and int.from_bytes(whole[start : start + width], "little") > left - width:
        raise MalformedRequestError("The pickle claims more bytes than it has.")
    if opcode.arg is None:
        return None
    reader: Callable[[io.BytesIO], Any] = opcode.arg.reader
    try:
        argument = reader(stream)
    except (ValueError, OverflowError) as error:
        raise MalformedRequestError("The pickle breaks off, or holds text that is not UTF-8.") from error
    if opcode.name == "FRAME" and argument > len(whole) - stream.tell():
        raise MalformedRequestError("The pickle claims more bytes than it has.")
    if opcode.name == "PROTO" and argument not in PROTOCOLS:
        raise MalformedRequestError(f"The pickle must be of protocol {' or '.join(map(str, PROTOCOLS))}.")
    return argument


@dataclass(slots=True)
class _Node:
    value: Any
    depth: int = 0
    """Of a container: how many stand within each other, itself included."""
    is_part: bool = False
    """Whether it stands in another one."""
    is_of_array: bool = False
    """Whether it is a part of an array and no value by itself, or a tuple with such a part."""


class _Builder:
    """The stack that the opcodes work on; `None` marks."""

    def __init__(self, *, max_texts: int) -> None:
        self._max_texts = max_texts
        self._stack: list[_Node | None] = []
        self._memo: list[_Node] = []

    def build(self, opcodes: Iterator[_Opcode]) -> Any:
        steps = self._steps()
        for name, argument in opcodes:
            if name in _WITH_LENGTHS or name in _PLAIN:
                self._stack.append(_Node(argument, is_of_array=name in OF_ARRAYS))
            elif name in _CONSTANTS:
                self._stack.append(_Node(_CONSTANTS[name]))
            elif name in _TUPLES:
                self._push_tuple(self._pop(_TUPLES[name]))
            elif name in _GETS:
                self._push_known(argument)
            elif name in steps:
                steps[name]()
        if len(self._stack) != 1 or self._top().is_of_array:
            raise _malformed()
        return self._top().value

    def _steps(self) -> Mapping[str, Callable[[], None]]:
        """What opcodes without an argument do; PROTO, FRAME and STOP do nothing here."""
        push = self._stack.append
        return {
            "MARK": lambda: push(None),
            "MEMOIZE": lambda: self._memo.append(self._top()),
            "EMPTY_DICT": lambda: push(_Node({}, 1)),
            "EMPTY_LIST": lambda: push(_Node([], 1)),
            "APPEND": lambda: self._extend(self._pop(1)),
            "APPENDS": lambda: self._extend(self._pop_to_mark()),
            "SETITEM": lambda: self._update(self._pop(2)),
            "SETITEMS": lambda: self._update(self._pop_to_mark()),
            "TUPLE": lambda: self._push_tuple(self._pop_to_mark()),
            "STACK_GLOBAL": self._push_name,
            "REDUCE": self._call,
            "BUILD": self._finish,
        }

    def _push_name(self) -> None:
        module, name = self._pop(2)
        self._stack.append(_Node(named(module.value, name.value), is_of_array=True))

    def _call(self) -> None:
        target, arguments = self._pop(2)
        made = called(target.value, arguments.value, most=self._max_texts)
        self._stack.append(_Node(made, 1, is_of_array=not isinstance(made, list)))

    def _finish(self) -> None:
        """Of what was called, in its own place, so that whoever refers to it has it; unless it is held already."""
        (state,) = self._pop(1)
        node = self._top()
        if node.is_part:
            raise _malformed()
        node.value = built(node.value, state.value, most=self._max_texts)
        node.is_of_array = not isinstance(node.value, list)

    def _push_known(self, number: int) -> None:
        if number >= len(self._memo):
            raise _malformed()
        self._stack.append(self._memo[number])

    def _top(self) -> _Node:
        node = self._stack[-1] if self._stack else None
        if node is None:
            raise _malformed()
        return node

    def _pop(self, num: int) -> list[_Node]:
        first = len(self._stack) - num
        nodes = [node for node in self._stack[max(0, first) :] if node is not None]
        if first < 0 or len(nodes) != num:
            raise _malformed()
        del self._stack[first:]
        return nodes

    def _pop_to_mark(self) -> list[_Node]:
        nodes: list[_Node] = []
        while self._stack:
            node = self._stack.pop()
            if node is None:
                nodes.reverse()
                return nodes
            nodes.append(node)
        raise _malformed()

    def _push_tuple(self, nodes: list[_Node]) -> None:
        node = _Node(tuple(each.value for each in nodes), 1)
        self._take(node, nodes)
        self._stack.append(node)

    def _extend(self, nodes: list[_Node]) -> None:
        target = self._target(list)
        self._take(target, nodes)
        target.value.extend(each.value for each in nodes)

    def _update(self, nodes: list[_Node]) -> None:
        target = self._target(dict)
        self._take(target, nodes)
        keys, values = nodes[::2], nodes[1::2]
        if len(keys) != len(values) or not all(type(key.value) is str for key in keys):
            raise MalformedRequestError("The pickle holds a dict whose keys are not all texts.")
        for key, value in zip(keys, values, strict=True):
            target.value[key.value] = value.value

    def _target(self, kind: type) -> _Node:
        target = self._top()
        if type(target.value) is not kind or target.is_part:
            raise _malformed()
        return target

    def _take(self, target: _Node, nodes: list[_Node]) -> None:
        """Put nodes into a container, which is then as deep as the deepest of them says."""
        for node in nodes:
            node.is_part = True
            if node.is_of_array and not isinstance(target.value, tuple):
                raise MalformedRequestError("The pickle holds a part of an array that is no value.")
            target.is_of_array |= node.is_of_array
            target.depth = max(target.depth, node.depth + 1)
        if target.is_part or target.depth > MAX_DEPTH:
            raise MalformedRequestError(f"The pickle holds itself, or more than {MAX_DEPTH} levels of containers.")


def _malformed() -> MalformedRequestError:
    return MalformedRequestError("The pickle's opcodes do not fit each other.")
