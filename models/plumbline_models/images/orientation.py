"""Which way up a camera held itself, read from EXIF without a parser that warns or raises.

The tag and its eight values: EXIF 2.32 (CIPA DC-008), section 4.6.4, tag 0x0112.
"""

import struct

from PIL.Image import Transpose

_TAG = 0x0112
_PREFIX = b"Exif\0\0"
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_FORMATS = {1: "B", 3: "H", 4: "I"}  # TIFF types a writer may have chosen: byte, short, long
_MAX_ENTRIES = 512

TRANSPOSES = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What turns an image upright, by the tag's value; 1 and anything unknown need nothing."""


def find_transpose(exif: object) -> Transpose | None:
    """Say how to turn an image upright.

    Args:
        exif: The EXIF block as Pillow's `info["exif"]` holds it; anything else counts as none.

    Returns:
        None where nothing is to be done: no tag, an unknown value, or EXIF that cannot be read.
    """
    if not isinstance(exif, bytes):
        return None
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    try:
        return TRANSPOSES.get(_read_tag(exif))
    except struct.error:
        return None


def _read_tag(exif: bytes) -> int:
    order = _BYTE_ORDERS.get(exif[:4])
    if order is None:
        return 1
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (num_entries,) = struct.unpack_from(order + "H", exif, directory)
    for index in range(min(num_entries, _MAX_ENTRIES)):
        entry = directory + 2 + 12 * index
        tag, kind, count = struct.unpack_from(order + "HHI", exif, entry)
        if tag == _TAG and count == 1 and kind in _FORMATS:
            (value,) = struct.unpack_from(order + _FORMATS[kind], exif, entry + 8)
            return int(value)
    return 1
