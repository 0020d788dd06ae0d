"""The reader of pickles: what clients send is read as Python reads it, and nothing of what is hostile runs."""

import os
import pickle
import pickletools
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.edge.compat.unpickler import ALLOWED, MAX_DEPTH, OF_ARRAYS, read_pickle

IMAGE = bytes(range(256)) * 300
GENEVAL = {"tag": "counting", "include": [{"class": "dog", "count": 2, "position": ["left of", 0]}], "prompt": "ä"}
REQUESTS = {
    "deqa": {"images": [IMAGE, b"\xff\xd8" * 20]},
    "geneval": {"images": [IMAGE], "meta_datas": [GENEVAL] * 3, "only_strict": True},
    "verl-omni": {"images": [b"x"], "prompts": ["ein roter Kreis"], "metadata": {}},
    "deepgen": {"images": [b"x"] * 64, "prompts": ["a"] * 64, "metadata": {"a": [1.5, None, False, 2**40, -3, (1, 2)]}},
    "edit": {"images": {"source": [b"x"], "edited": [b"y"]}, "metadata": {"t": ((), (1,), (1, 2, 3), (1, 2, 3, 4))}},
}


def read(body: bytes, most: int = 10_000) -> Any:
    return read_pickle(body, max_opcodes=most)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("name", REQUESTS)
def test_what_clients_send_is_read_as_python_reads_it(name: str, protocol: int) -> None:
    assert read(pickle.dumps(REQUESTS[name], protocol)) == REQUESTS[name]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3])
def test_other_protocols_are_refused(protocol: int) -> None:
    with pytest.raises(MalformedRequestError):
        read(pickle.dumps({"images": [b"x"]}, protocol))


class Reduced:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.how = function, arguments

    def __reduce__(self) -> Any:
        return self.how


def framed(opcodes: bytes) -> bytes:
    return b"\x80\x04" + opcodes + b"."


@pytest.mark.parametrize("protocol", [4, 5])
def test_nothing_of_a_call_runs(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    hostile = Reduced(os.system, f"touch {made}")
    for body in (hostile, {"images": [hostile]}, [{"a": (b"x", [hostile])}], {"metadata": {"deep": [[hostile]]}}):
        with pytest.raises(MalformedRequestError, match="plain values"):
            read(pickle.dumps(body, protocol))
    assert not made.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        pytest.param(b"cos\nsystem\n(S'true'\ntR", id="global"),
        pytest.param(b"(S'true'\nios\nsystem\n", id="inst"),
        pytest.param(b"\x8c\x02os\x8c\x06system\x93", id="stack global"),
        pytest.param(b"\x82\x01", id="extension code"),
        pytest.param(b"\x83\x01\x00", id="extension code of 2 bytes"),
        pytest.param(b"\x84\x01\x00\x00\x00", id="extension code of 4 bytes"),
        pytest.param(b"Pid\n", id="persistent id"),
        pytest.param(b"K\x01Q", id="persistent id from the stack"),
        pytest.param(b"\x8c\x01a)\x81", id="new object"),
        pytest.param(b"}}b", id="build"),
        pytest.param(b"\x97", id="buffer out of band"),
        pytest.param(b"\x97\x98", id="read-only buffer"),
        pytest.param(b"\x8f(K\x01\x90", id="set"),
        pytest.param(b"(K\x01\x91", id="frozenset"),
        pytest.param(b"K\x012", id="duplicate"),
        pytest.param(b"K\x01K\x020", id="pop"),
        pytest.param(b"K\x01(K\x021", id="pop mark"),
        pytest.param(b"I01\n", id="text of a number"),
        pytest.param(b"K\x01r\xff\xff\xff\x7f", id="place in the memo of 2**31"),
        pytest.param(b"\x8b\xff\xff\xff\x7f", id="whole number of 2 GiB"),
        pytest.param(b"\x96" + struct.pack("<Q", 8 * 2**30), id="8 GiB in 11 bytes"),
        pytest.param(b"\x8e" + struct.pack("<Q", 8 * 2**30), id="8 GiB of bytes"),
        pytest.param(b"\x8d" + struct.pack("<Q", 8 * 2**30), id="8 GiB of text"),
        pytest.param(b"B" + struct.pack("<I", 2**32 - 1), id="4 GiB of bytes"),
        pytest.param(b"X" + struct.pack("<I", 2**32 - 1), id="4 GiB of text"),
        pytest.param(b"\x95" + struct.pack("<Q", 8 * 2**30) + b"N", id="frame of 8 GiB"),
        pytest.param(b"\x95" + struct.pack("<Q", 2**64 - 1) + b"N", id="frame of 2**64"),
        pytest.param(b"\x80\x04N", id="protocol twice"),
        pytest.param(b"h\x00", id="memo that is empty"),
        pytest.param(b"j\xff\xff\xff\xff", id="place that is not in the memo"),
        pytest.param(b"\x94", id="memoize nothing"),
        pytest.param(b"a", id="append to nothing"),
        pytest.param(b"K\x01K\x02a", id="append to a number"),
        pytest.param(b"]e", id="no mark"),
        pytest.param(b"](", id="mark at the end"),
        pytest.param(b"]]", id="two values"),
        pytest.param(b"", id="no value"),
        pytest.param(b"\x85", id="tuple of nothing"),
        pytest.param(b"}(K\x01K\x02u", id="key that is no text"),
        pytest.param(b"}()K\x02u", id="key that is a tuple"),
        pytest.param(b"}(\x8c\x01au", id="key without a value"),
        pytest.param(b"]\x94h\x00a", id="list in itself"),
        pytest.param(b"]\x94(h\x00e", id="list in itself by a mark"),
        pytest.param(b"]\x94]\x94h\x00ah\x00h\x01a\x86", id="list that is changed once it stands in another"),
        pytest.param(b"]" * (MAX_DEPTH + 1) + b"a" * MAX_DEPTH, id="too deep"),
        pytest.param(b"\x8c\x02\xff\xff", id="text that is not UTF-8"),
        pytest.param(b"\xff", id="no opcode"),
    ],
)
def test_hostile_opcodes_are_refused(opcodes: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        read(framed(opcodes))


def test_depth_up_to_the_limit_is_read() -> None:
    assert read(framed(b"]" * MAX_DEPTH + b"a" * (MAX_DEPTH - 1)))


def test_what_a_length_claims_is_never_allocated() -> None:
    bodies = [framed(code + struct.pack("<Q", 8 * 2**30)) for code in (b"\x96", b"\x8e", b"\x8d", b"\x95")]
    bodies += [framed(code + struct.pack("<I", 2**32 - 1)) for code in (b"B", b"X", b"\x8b")]
    tracemalloc.start()
    try:
        for body in bodies:
            with pytest.raises(MalformedRequestError):
                read(body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_body_that_ends_early_or_goes_on_is_refused() -> None:
    whole = pickle.dumps(REQUESTS["deepgen"], 4)
    for end in range(len(whole)):
        with pytest.raises(MalformedRequestError):
            read(whole[:end])
    with pytest.raises(MalformedRequestError, match="behind"):
        read(whole + b"N")


def test_opcodes_are_bounded() -> None:
    with pytest.raises(RequestTooLargeError):
        read(framed(b"](" + b"N" * 100 + b"e"), most=50)


def test_memory_of_references_is_that_of_the_body() -> None:
    """Lists of lists of references: 2**40 members if each were copied."""
    opcodes = b"]\x94"
    for place in range(12):
        opcodes += b"](" + (b"h" + bytes([place])) * 8 + b"e\x94"
    with pytest.raises(MalformedRequestError):  # only the last one may be left on the stack
        read(framed(opcodes))


ARRAYS = {
    "arrays": np.array(["a red circle", "ein Kreis \u00e4", "\U0001f600", ""]),
    "one": np.array(["a"]),
    "none": np.array([], "<U3"),
}


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_texts_are_read_as_lists(name: str, protocol: int) -> None:
    array = ARRAYS[name]
    body = {"images": [b"x"], "prompts": array, "again": [array, array[:1]]}
    expected = array.tolist()
    assert read(pickle.dumps(body, protocol)) == {
        "images": [b"x"], "prompts": expected, "again": [expected, expected[:1]],
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.array([1, 2]), id="whole numbers"),
        pytest.param(np.array([b"a"]), id="bytes"),
        pytest.param(np.array(["a"], dtype=object), id="objects"),
        pytest.param(np.array([["a"]]), id="two dimensions"),
        pytest.param(np.array("a"), id="none"),
        pytest.param(np.array(["a"], ">U1"), id="big-endian"),
        pytest.param(np.str_("a"), id="a scalar"),
        pytest.param(np.dtype("U3"), id="a type alone"),
        pytest.param(np.ndarray, id="a class alone"),
        pytest.param(np.zeros(1, [("a", "U1")]), id="records"),
        pytest.param(bytearray(b"abc"), id="a bytearray"),
    ],
)
def test_other_arrays_and_parts_of_them_are_refused(value: Any, protocol: int) -> None:
    for body in (value, [value], {"prompts": value}, (value,)):
        with pytest.raises(MalformedRequestError):
            read(pickle.dumps(body, protocol))


def of_array(name: str, module: str = "numpy") -> bytes:
    """The opcodes of a name."""
    return b"".join(b"\x8c" + bytes([len(each)]) + each.encode() for each in (module, name)) + b"\x93"


TYPE = of_array("dtype") + b"\x8c\x02U1\x89\x88\x87R(K\x03\x8c\x01<NNNK\x04K\x04K\x08tb"
EMPTY = of_array("_reconstruct", "numpy.core.multiarray") + of_array("ndarray") + b"K\x00\x85C\x01b\x87R"


def test_the_opcodes_of_an_array_are_what_the_hostile_ones_below_change() -> None:
    assert read(framed(EMPTY + b"(K\x01K\x01\x85" + TYPE + b"\x89C\x04a\0\0\0tb")) == ["a"]


@pytest.mark.parametrize(
    "opcodes",
    [
        pytest.param(of_array("system", "os") + b"\x8c\x04true\x85R", id="another name"),
        pytest.param(of_array("load") + b"\x8c\x01a\x85R", id="another name of numpy's"),
        pytest.param(of_array("dtype") + b"\x8c\x02O8\x89\x88\x87R", id="a type of objects"),
        pytest.param(of_array("dtype") + b"\x8c\x02U0\x89\x88\x87R", id="texts that take no room"),
        pytest.param(of_array("ndarray") + b"K\x05\x85R", id="an array by its class"),
        pytest.param(b"\x8c\x02os)R", id="a text that is called"),
        pytest.param(b"K\x01K\x01\x93", id="a name of numbers"),
        pytest.param(EMPTY, id="an array without its state"),
        pytest.param(b"]" + EMPTY + b"a", id="the same in a list"),
        pytest.param(TYPE + b"}b", id="a type that is built again"),
        pytest.param(b"}}b", id="a dict that is built"),
        pytest.param(EMPTY + b"(K\x01K\x02\x85" + TYPE + b"\x89C\x04a\0\0\0tb", id="more texts than bytes"),
        pytest.param(EMPTY + b"(K\x01J\xff\xff\xff\xff\x85" + TYPE + b"\x89C\x00tb", id="fewer than none"),
        pytest.param(EMPTY + b"(K\x01K\x01\x85" + TYPE + b"\x89C\x04\xff\xff\xff\xfftb", id="no Unicode"),
        pytest.param(EMPTY + b"(K\x01K\x01\x85" + TYPE + b"\x89C\x04\0\xd8\0\0tb", id="half a surrogate"),
        pytest.param(EMPTY + b"\x94\x85h\x00(K\x01K\x01\x85" + TYPE + b"\x89C\x04a\0\0\0tb\x86", id="held already"),
    ],
)
def test_hostile_arrays_are_refused(opcodes: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        read(framed(opcodes))


def test_texts_of_arrays_are_bounded() -> None:
    body = pickle.dumps(np.array(["a"] * 200), 4)
    assert len(read(body, most=300)) == 200
    with pytest.raises(MalformedRequestError):
        read(body, most=100)


def test_no_opcode_of_plain_values_can_name_or_call_anything_and_those_of_arrays_name_nothing_else() -> None:
    named = {each.name for each in pickletools.opcodes}
    assert named >= ALLOWED | OF_ARRAYS
    assert {"STACK_GLOBAL", "REDUCE", "BUILD", "BYTEARRAY8"} == OF_ARRAYS
    assert not ALLOWED & {
        "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID",
        "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8",
    }  # fmt: skip
