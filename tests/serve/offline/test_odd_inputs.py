"""What spreadsheets, other programs and people write, and no row may be lost by."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_serve.offline.runners.on_ray import pieces
from tests.serve.offline.test_readers import opened


def test_what_other_programs_put_around_rows_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"image": "a.png"}\r\n{"image": "b.png"}\r\n')
    (tmp_path / "rows.csv").write_bytes(b"image,text,,\ra.png,x,,1\rb.png,y,,2\r")  # as old spreadsheets end lines
    for name in ("rows.jsonl", "rows.csv"):
        rows = list(opened(tmp_path / name).rows())
        assert [(row.name, row.error) for row in rows] == [("a.png", None), ("b.png", None)]
        assert opened(tmp_path / name).count() == 2
    assert rows[1].columns == {"column 3": "", "column 4": "2"}


def test_a_quote_that_is_not_closed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('image,text\na.png,x\nb.png,"y\nc.png,z\n', encoding="utf-8")
    first, second = opened(path).rows()
    assert first.error is None
    assert second.error is not None
    path.write_text('image,"text\na.png,x\n', encoding="utf-8")
    with pytest.raises(InvalidFieldError, match=r"The header of .* cannot be read"):
        opened(path)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.csv").write_text("image,seed,seed\n", encoding="utf-8")
    twice = pa.Table.from_arrays([pa.array(["a.png"])] * 3, names=["image", "seed", "seed"])
    pq.write_table(twice, tmp_path / "rows.parquet")
    with pytest.raises(InvalidFieldError, match="two columns 'seed'"):
        opened(tmp_path / name)


def test_columns_that_mean_something_else_are_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"image": "a.png", "frames": 16, "pool": "train"}\n', encoding="utf-8")
    [row] = opened(path).rows()
    assert (row.error, row.frames, row.columns) == (None, (), {"frames": 16, "pool": "train"})


def test_values_that_python_has_not_are_errors_of_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    times = pa.array([1, 2_000, 3_000_000_001], pa.timestamp("ns"))
    days = pa.array([0, 1, 2**30], pa.date32())
    pq.write_table(pa.table({"image": ["a.png", "b.png", "c.png"], "text": text, "when": times, "day": days}), path)
    reader = opened(path)
    rows = list(reader.rows())
    assert [row.number for row in rows] == [0, 1, 2]
    said = [row.error.detail if row.error else None for row in rows]
    assert said == [None, "The column text holds what cannot be read.", "The column day holds what cannot be read."]
    assert rows[0].columns["when"].microsecond == 0
    assert reader.types()["when"] == pa.timestamp("us")


def test_images_without_bytes_are_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    images = [{"bytes": b"", "path": None}, {"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": None}]
    pq.write_table(pa.table({"image": images}), path)
    rows = list(opened(path).rows())
    assert [row.error.detail if row.error else None for row in rows] == ["The image has no bytes.", None, None]
    assert [row.image for row in rows] == [None, tmp_path / "a.png", b"x"]


def tar_of(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_what_macs_and_people_add_to_tars_is_no_sample(tmp_path: Path) -> None:
    members = {"README": b"hello", "./._a.jpg": b"mac", "./a.jpg": b"A", "./.a.txt": b"mac", "./a.txt": b"a fox"}
    path = tar_of(tmp_path / "rows.tar", **members)
    [row] = opened(path).rows()
    assert (row.name, row.image, row.text, row.columns) == ("./a.jpg", b"A", "a fox", {"key": "a"})


def test_of_several_images_of_a_sample_one_is_meant_or_none(tmp_path: Path) -> None:
    members = {"a.mask.png": b"M", "a.jpg": b"A", "b.in.jpg": b"1", "b.out.jpg": b"2", "c.jpg": b"C", "c.png": b"D"}
    path = tar_of(tmp_path / "rows.tar", **members)
    first, second, third = opened(path).rows()
    assert (first.image, first.name) == (b"A", "a.jpg")
    for row, said in ((second, "b.in.jpg, b.out.jpg"), (third, "c.jpg, c.png")):
        assert row.error is not None
        assert said in row.error.detail
    assert [row.image for row in opened(path, image_column="out.jpg").rows()] == [b"A", b"2", None]


def test_members_of_a_tar_go_before_what_its_json_says(tmp_path: Path) -> None:
    said = b'{"image": "elsewhere.png", "text": "old", "caption": "long", "seed": 1}'
    for members in ({"a.jpg": b"A", "a.txt": b"new", "a.json": said}, {"a.json": said, "a.jpg": b"A", "a.txt": b"new"}):
        path = tar_of(tmp_path / "rows.tar", **members)
        [row] = opened(path).rows()
        assert (row.image, row.text) == (b"A", "new")
        assert row.columns == {
            "key": "a", "json.image": "elsewhere.png", "json.text": "old", "caption": "long", "seed": 1,
        }  # fmt: skip
        assert [row.text for row in opened(path, text_column="caption").rows()] == ["long"]


def test_pieces_of_a_table_are_all_of_it_though_fewer_rows_were_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"image": "a.png"}\n' * 600, encoding="utf-8")
    cut = pieces(opened(path), 88)
    assert [(each.start, each.stop) for each in cut] == [(88, 344), (344, None)]
    assert sum(1 for each in cut for _ in each.reader.rows(each.start, each.stop)) == 512
    assert pieces(opened(path), 600) == []
