"""The reader of pickles: what clients send is read as Python reads it, and nothing of what is hostile runs."""

import os
import pickle
import pickletools
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.errors import MalformedRequestError, RequestTooLargeError
from plumbline_serve.edge.compat.unpickler import ALLOWED, MAX_DEPTH, read_pickle

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


def test_no_allowed_opcode_can_name_or_call_anything() -> None:
    named = {each.name for each in pickletools.opcodes}
    assert named >= ALLOWED
    assert not ALLOWED & {
        "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID",
        "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8",
    }  # fmt: skip
