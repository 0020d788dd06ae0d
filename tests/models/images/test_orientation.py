"""Where else than in front of the image data an orientation may stand, and what becomes of it."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from plumbline_models.core.arrays import Pixels
from plumbline_models.images.decode import DecodePolicy, decode

Encode = Callable[..., bytes]

POLICY = DecodePolicy()
SIDEWAYS = 6
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def turned(data: bytes) -> Pixels:
    return np.rot90(decode(data, DecodePolicy(exif_orientation="ignore")), k=-1)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@pytest.mark.parametrize("num_frames", [1, 2])
def test_a_png_may_say_it_behind_its_image_data(num_frames: int, ramp: Pixels, encode: Encode) -> None:
    frames = [Image.fromarray(ramp), Image.fromarray(255 - ramp)][:num_frames]
    plain = encode(frames[0], "PNG", save_all=num_frames > 1, append_images=frames[1:])
    end = len(plain) - 12
    data = plain[:end] + png_chunk(b"eXIf", exif(SIDEWAYS).removeprefix(b"Exif\0\0")) + plain[end:]
    np.testing.assert_array_equal(decode(data, POLICY), turned(plain))
    np.testing.assert_array_equal(decode(data, DecodePolicy(exif_orientation="ignore")), ramp)


def test_a_webp_says_it_at_its_end(ramp: Pixels, encode: Encode) -> None:
    data = encode(Image.fromarray(ramp), "WEBP", lossless=True, exif=exif(SIDEWAYS))
    assert data.index(b"EXIF") > data.index(b"VP8L")
    np.testing.assert_array_equal(decode(data, POLICY), np.rot90(ramp, k=-1))


def test_the_first_of_several_exif_segments_of_a_jpeg_counts(ramp: Pixels, encode: Encode) -> None:
    plain = encode(Image.fromarray(ramp), "JPEG")
    segments = [b"\xff\xe1" + struct.pack(">H", 2 + len(exif(n))) + exif(n) for n in (SIDEWAYS, 3)]
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP.replace(b'"6"', b'"8"')
    app1 = b"\xff\xe1" + struct.pack(">H", 2 + len(xmp)) + xmp
    for data in (app1 + b"".join(segments), segments[0] + app1, segments[0]):
        np.testing.assert_array_equal(decode(plain[:2] + data + plain[2:], POLICY), turned(plain))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_xmp_turns_nothing_as_in_browsers(kind: str, ramp: Pixels, encode: Encode) -> None:
    options: dict[str, object] = {"xmp": XMP}
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options = {"pnginfo": info}
    data = encode(Image.fromarray(ramp), kind, **options)
    assert b"tiff:Orientation" in data
    assert decode(data, POLICY).shape == ramp.shape


def test_an_avif_is_turned_by_its_own_properties_and_not_by_its_exif(ramp: Pixels, encode: Encode) -> None:
    """HEIF (ISO/IEC 23008-12): the properties hold, an orientation in the EXIF block is to be ignored."""
    image = Image.fromarray(ramp)
    np.testing.assert_array_equal(
        decode(encode(image, "AVIF", exif=exif(SIDEWAYS)), POLICY),
        np.rot90(decode(encode(image, "AVIF"), POLICY), k=-1),
    )
    unit = Image.Exif()
    unit[0x0128] = SIDEWAYS  # Pillow writes no orientation into an AVIF's EXIF: another tag is made one
    straight = encode(image, "AVIF", exif=unit.tobytes())
    entry = struct.pack(">HHIH", 0x0128, 3, 1, SIDEWAYS)
    assert straight.count(entry) == 1
    contradicting = straight.replace(entry, struct.pack(">HHIH", 0x0112, 3, 1, SIDEWAYS))
    np.testing.assert_array_equal(decode(contradicting, POLICY), decode(straight, POLICY))
