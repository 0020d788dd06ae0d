"""Videos become frames evenly through their time; a hostile file, or one that is cut off, costs its row."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from PIL import Image

from plumbline_models.core.errors import ImageError, InvalidFieldError
from plumbline_serve.offline.readers import open_input
from plumbline_serve.offline.rows import Row, RowReading
from plumbline_serve.offline.runners.chunks import ChunkBounds
from plumbline_serve.offline.videos import VideoDecoder
from plumbline_serve.offline.videos.sampling import Bounds, frames_of
from tests.serve.offline.samples import image_bytes

FPS, NUM_FRAMES = 10, 30


def write_video(
    path: Path, codec: str = "libx264", num_frames: int = NUM_FRAMES, size: tuple[int, int] = (64, 48)
) -> Path:
    """A video whose frames grow lighter by a step of 8 each."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(num_frames):
            pixels = np.full((size[1], size[0], 3), 8 * (number % NUM_FRAMES), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def numbers(frames: list[bytes]) -> list[int]:
    """Which frames of the video they are, by their lightness."""
    return [round(float(np.asarray(Image.open(io.BytesIO(each))).mean()) / 8) for each in frames]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.webm", "libvpx-vp9"), ("a.mkv", "ffv1")]
)
def test_frames_are_the_middles_of_equal_parts(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, codec)
    assert numbers(frames_of(path, 3, Bounds())) == [5, 15, 25]
    assert numbers(frames_of(path.read_bytes(), 1, Bounds())) == [15]
    assert numbers(frames_of(path, 60, Bounds())) == [number // 2 for number in range(60)]  # twice what it has


def test_a_long_video_is_sought_in(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=40 * NUM_FRAMES)  # two minutes
    few = Bounds(max_decoded_pixels=64 * 48 * 700)
    assert numbers(frames_of(path, 2, few)) == [
        0,
        0,
    ]  # frames 300 and 900, of which it decodes 250 and less before each


def test_a_file_that_does_not_say_how_long_it_is_is_measured(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ivf", "libvpx-vp9")
    data = bytearray(path.read_bytes())
    data[24:28] = bytes(4)  # the number of frames in an IVF's header
    assert numbers(frames_of(bytes(data), 3, Bounds())) == pytest.approx([5, 15, 24], abs=1)


def num_frames_of(data: bytes, num_frames: int) -> int | None:
    """How many frames come of a file; None where it is refused, and with no other error than that of an image."""
    try:
        return len(frames_of(data, num_frames, Bounds()))
    except ImageError:
        return None


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.avi"])
def test_a_file_that_is_cut_off_gives_frames_or_an_error(tmp_path: Path, name: str, share: float) -> None:
    data = write_video(tmp_path / name, "libvpx-vp9" if name == "a.webm" else "mpeg4").read_bytes()
    assert num_frames_of(data[: int(share * len(data))], 4) in (None, 4)


def test_changed_bytes_give_frames_or_an_error(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mp4").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        changed = np.frombuffer(data, np.uint8).copy()
        where = rng.integers(len(changed), size=20)
        changed[where] = rng.integers(256, size=20)
        assert num_frames_of(changed.tobytes(), 2) in (None, 2)


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param(Bounds(max_frame_pixels=64 * 48 - 1), id="pixels of a frame"),
        pytest.param(Bounds(max_decoded_pixels=64 * 48 * 10), id="pixels on the way"),
        pytest.param(Bounds(max_png_bytes=100), id="bytes of the frames"),
    ],
)
def test_what_a_video_may_take_is_bounded(tmp_path: Path, bounds: Bounds) -> None:
    path = write_video(tmp_path / "a.mp4")
    with pytest.raises(ImageError) as caught:
        frames_of(path, 4, bounds)
    assert caught.value.code == "image_too_large"


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.ts", "mpeg4")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.mp4").write_text(playlist)
    (tmp_path / "b.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'secret.ts'}\n")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(ImageError):
            frames_of(tmp_path / name, 1, Bounds())


@pytest.fixture
def videos() -> Iterator[VideoDecoder]:
    with VideoDecoder() as decoder:
        yield decoder


def test_a_process_beside_decodes_and_one_bad_file_is_one_error(tmp_path: Path, videos: VideoDecoder) -> None:
    path = write_video(tmp_path / "a.mp4")
    (tmp_path / "none.mp4").write_bytes(b"no video")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert list(videos.frames(path, 3)) == frames_of(path, 3, Bounds())
    for name in ("none.mp4", "pipe.mp4", "missing.mp4"):
        with pytest.raises(ImageError, match="video"):
            videos.frames(tmp_path / name, 3)
    assert numbers(list(videos.frames(path, 1))) == [15]


def test_a_decoder_that_dies_or_takes_too_long_is_started_anew(tmp_path: Path, videos: VideoDecoder) -> None:
    path = write_video(tmp_path / "a.mp4")
    videos.frames(path, 1)
    process = videos._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(ImageError, match="end of its decoder"):
        videos.frames(path, 1)
    assert numbers(list(videos.frames(path, 1))) == [15]
    with VideoDecoder(max_seconds=0.0) as hasty, pytest.raises(ImageError, match="took more than 0 s"):
        hasty.frames(path, 1)


def rows_of(path: Path) -> list[Row]:
    folder = path if path.is_dir() else path.parent
    reader = open_input(path, RowReading(folder, num_frames=2, pool="min"))
    return [row for chunk in ChunkBounds(10**7).cut(reader.rows()) for row in chunk]


def test_videos_of_a_folder_are_rows_with_frames(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_video(folder / "a.mp4")
    (folder / "a.txt").write_text("it grows light", encoding="utf-8")
    (folder / "b.MP4").write_bytes(b"no video")
    (folder / "c.png").write_bytes(image_bytes(1))
    video, bad, image = rows_of(folder)
    assert (video.name, video.text, video.image, video.pool) == ("a.mp4", "it grows light", None, "min")
    assert numbers([each for each in video.frames if isinstance(each, bytes)]) == [7, 22]
    assert bad.error is not None
    assert bad.error.code == "image_undecodable"
    assert (image.image, image.frames) == (image_bytes(1), ())


def test_rows_of_a_table_have_frames_of_their_own(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(image_bytes(number))
    lines = (
        '{"frames": ["0.png", "1.png"], "pool": "mean"}',
        '{"frames": ["0.png", "none.png"]}',
        '{"frames": []}',
        '{"frames": ["0.png"], "image": "0.png"}',
        '{"frames": ["0.png"], "pool": "median"}',
    )
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    good, *bad = rows_of(tmp_path / "rows.jsonl")
    assert (good.frames, good.pool, good.error) == ((image_bytes(0), image_bytes(1)), "mean", None)
    assert [row.error.code if row.error else None for row in bad] == ["image_undecodable", *["invalid_field"] * 3]
    assert isinstance(bad[-1].error, InvalidFieldError)
