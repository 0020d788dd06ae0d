"""Every kind of input gives the same rows, from wherever one begins, and what is wrong with one row is its error."""

import gzip
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.core.questions import Question
from plumbline_models.text.question_files import read_question_file
from plumbline_serve.offline.readers import Reader, open_input
from plumbline_serve.offline.rows import AskedQuestions, Row, RowReading, Url
from tests.serve.offline.samples import COLOURS, TEXTS, image_bytes

KINDS = ("folder", "csv", "jsonl", "parquet", "parquet bytes", "tar")


def opened(path: Path, **options: object) -> Reader:
    folder = path if path.is_dir() else path.parent
    return open_input(path, RowReading(folder, **options))  # type: ignore[arg-type]


def rows_of(path: Path, **options: object) -> list[Row]:
    return [row.loaded(10**6) for row in opened(path, **options).rows()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_same_rows(make_input, kind: str) -> None:
    path = make_input(kind)
    rows = rows_of(path)
    assert [row.error for row in rows] == [None] * 4
    assert [row.number for row in rows] == [0, 1, 2, 3]
    assert [row.image for row in rows] == [image_bytes(number) for number in range(4)]
    assert [row.text for row in rows] == TEXTS
    if kind != "folder":
        assert [row.columns["colour"] for row in rows] == COLOURS
    assert opened(path).count() == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "stop"), [(0, 2), (1, 4), (2, 3), (3, None), (4, None)])
def test_rows_are_numbered_alike_wherever_one_begins(make_input, kind: str, start: int, stop: int | None) -> None:
    reader = opened(make_input(kind))
    whole = list(reader.rows())
    assert list(reader.rows(start, stop)) == whole[start:stop]


def test_a_text_may_be_given_for_rows_without_one(make_input) -> None:
    assert [row.text for row in rows_of(make_input("csv"), text="anything")] == [
        "anything" if t is None else t for t in TEXTS
    ]


def test_folders_are_gone_through_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.jpeg", "a.png", "c/d/e.webp", "c/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [row.name for row in opened(tmp_path).rows()] == ["a.png", "b/1.jpeg", "b/2.JPG", "c/d/e.webp"]


def test_what_is_wrong_with_a_file_is_an_error_of_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"x" * 20)
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.png").write_bytes(b"x")
    (tmp_path / "d.txt").write_bytes(b"\xff")
    (tmp_path / "rows.jsonl").write_text('{"image": "none.png"}\n{"image": "b.png"}\n{"image": "c.png"}\n', "utf-8")
    codes = [row.loaded(10).error for row in opened(tmp_path / "rows.jsonl").rows()]
    assert [error.code if error else None for error in codes] == [
        "image_undecodable",
        "image_too_large",
        "image_undecodable",
    ]
    errors = {row.name: row.error for row in opened(tmp_path).rows()}
    assert errors["d.png"] is not None
    assert errors["d.png"].code == "invalid_field"


def test_lines_that_cannot_be_read_are_rows_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"image": "a.png"}\n\n{"image"\n[1]\n{"image": 3}\n{"image": "a.png", "text": 5}\n\xff\n')
    rows = list(opened(path).rows())
    assert [row.error.code if row.error else None for row in rows] == [
        None, "malformed_request", "malformed_request", "invalid_field", "invalid_field", "malformed_request",
    ]  # fmt: skip
    assert [row.number for row in rows] == list(range(6))


def test_rows_of_csv_may_hold_line_ends_and_may_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfimage,text\r\na.png,"two\nlines"\r\n\r\nb.png\r\nc.png,caf\xe9\r\nd.png,d,e\r\n')
    rows = list(opened(path).rows())
    assert rows[0].text == "two\nlines"
    assert [row.error.code if row.error else None for row in rows] == [None, *["malformed_request"] * 3]


def test_addresses_are_not_paths(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("image\nhttps://example.org/a.png\n", encoding="utf-8")
    [row] = opened(path).rows()
    assert (row.image, row.name) == (Url("https://example.org/a.png"), "https://example.org/a.png")


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.txt", "none.csv"])
def test_an_input_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.csv").write_text("picture,text\n", encoding="utf-8")
    pq.write_table(pa.table({"picture": ["a"]}), tmp_path / "rows.parquet")
    (tmp_path / "rows.txt").touch()
    with pytest.raises(InvalidFieldError, match=r"column 'image'|neither|no input"):
        opened(tmp_path / name)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("picture,prompt\na.png,a fox\n", encoding="utf-8")
    [row] = opened(path, image_column="picture", text_column="prompt").rows()
    assert (row.image, row.text, row.columns) == (tmp_path / "a.png", "a fox", {})


def test_what_scorers_compare_with_comes_in_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    line = '{"image": "a.png", "references": ["a fox"], "phrases": "[\\"a\\", \\"b\\"]", "reference_image": "b.png"'
    path.write_text(line + ', "questions": ["Is it?", {"text": "Really?", "depends_on": [0]}]}\n', encoding="utf-8")
    [row] = opened(path).rows()
    assert (row.references, row.phrases, row.reference_image) == (("a fox",), ("a", "b"), tmp_path / "b.png")
    assert row.questions == (Question("Is it?"), Question("Really?", depends_on=(0,)))


def test_questions_of_parquet_may_lack_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    asked = [
        [{"text": "Is it?", "tag": None, "depends_on": None}, {"text": "Is it red?", "tag": "c", "depends_on": [0]}]
    ]
    pq.write_table(pa.table({"image": ["a.png"], "questions": asked}), path)
    [row] = opened(path).rows()
    assert row.questions == (Question("Is it?"), Question("Is it red?", tag="c", depends_on=(0,)))


def test_questions_of_a_file_are_found_by_the_text(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text('{"prompt": "a fox", "questions": ["A fox?"]}\n{"prompt": "b", "questions": ["B?"]}\n', "utf-8")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"image": "a.png", "text": "a fox"}\n{"image": "a.png", "text": "a cat"}\n', encoding="utf-8")
    first, second = opened(path, asked=AskedQuestions(read_question_file(file))).rows()
    assert first.questions == (Question("A fox?"),)
    assert second.error is not None


def test_a_damaged_tar_says_so_and_the_next_goes_on(make_input, tmp_path: Path) -> None:
    path = make_input("tar")
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        header = tar.getmembers()[4].offset  # of the second sample
    tars = tmp_path / "tars"
    tars.mkdir()
    (tars / "0.tar").write_bytes(whole[: len(whole) // 3])
    (tars / "1.tar").write_bytes(whole[:header] + b"\xff" * 512 + whole[header + 512 :])
    (tars / "2.tar").write_bytes(whole)
    rows = rows_of(tars)
    broken = [row.number for row in rows if row.error is not None]
    assert broken
    assert {rows[number].name for number in broken} >= {"0.tar", "1.tar"}
    assert [row.text for row in rows[-4:]] == TEXTS


def test_tars_may_be_compressed(make_input) -> None:
    path = make_input("tar")
    packed = path.with_suffix(".tar.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [row.text for row in rows_of(packed)] == TEXTS
    assert opened(packed).count() is None


def test_links_and_devices_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo("a.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert list(opened(path).rows()) == []


def test_a_damaged_row_group_is_its_rows_errors(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    names = [f"{number:064d}.png" for number in range(8)]
    pq.write_table(pa.table({"image": names}), path, row_group_size=4, compression="zstd", use_dictionary=False)
    offset = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(data)
    rows = list(opened(path).rows())
    assert [row.error is None for row in rows] == [False] * 4 + [True] * 4
    assert [row.number for row in rows] == list(range(8))
