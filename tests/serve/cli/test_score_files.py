"""Files are read in order, as many at a time as the bounds allow."""

import os
import threading
from pathlib import Path

import pytest

from plumbline_serve.cli.score_files import Cutter
from plumbline_serve.offline.image_files import File, read


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Files of 1 to 6 bytes, and one that is missing in their middle."""
    made = [tmp_path / str(number) for number in range(1, 7)]
    for number, path in enumerate(made, start=1):
        path.write_bytes(bytes(number))
    return [*made[:3], tmp_path / "missing", *made[3:]]


@pytest.mark.parametrize(
    ("max_items", "max_bytes", "expected"),
    [
        pytest.param(99, 99, ["1 2 3 missing 4 5 6"], id="all at once"),
        pytest.param(3, 99, ["1 2 3", "missing 4 5", "6"], id="by items"),
        pytest.param(99, 6, ["1 2 3 missing", "4", "5", "6"], id="by bytes"),
        pytest.param(99, 4, ["1 2", "3 missing", "4", "5", "6"], id="one above the bound stands alone"),
        pytest.param(1, 1, ["1", "2", "3", "missing", "4", "5", "6"], id="one by one"),
    ],
)
def test_chunks_keep_both_bounds(paths: list[Path], max_items: int, max_bytes: int, expected: list[str]) -> None:
    chunks = Cutter(max_items, max_bytes, max_file_bytes=99).cut(paths)
    assert [" ".join(Path(file.name).name for file in chunk) for chunk in chunks] == expected


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: nothing is on the disk
    found = read(path, max_bytes=10)
    assert (found.data, found.error.code if found.error else None) == (b"", "image_too_large")


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # so that the writer need not wait for `read`
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            for _ in range(4):
                file.write(bytes(2**16))

    thread = threading.Thread(target=write)
    thread.start()
    found = read(tmp_path / "pipe", max_bytes=2**20)
    thread.join()
    os.close(reader)
    assert found == File(str(tmp_path / "pipe"), bytes(2**18))
