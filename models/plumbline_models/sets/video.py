"""One encoding of a video's frames.

CLIP4Clip's parameter-free type: Luo et al., "CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip
Retrieval", arXiv:2104.08860, section 3.3: frames of unit length, their mean, brought to unit length again. It knows
nothing of the order of frames. As a judge of generated videos it is weak: what happens in one frame is lost in it.
"""

from collections.abc import Sequence

import numpy as np

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.vectors import Floats, unit_rows


def pooled(frames: Sequence[Floats]) -> Floats:
    """The mean direction of frames' encodings.

    Args:
        frames: One or more.

    Returns:
        `[D]` of unit length.

    Raises:
        InvalidFieldError: One of them has no direction, or all together have none.
    """
    mean = unit_rows(frames, "/frames").mean(axis=0)
    length = np.linalg.norm(mean)
    if not length > 0:
        raise InvalidFieldError("The frames point in opposite directions; together they have none.")
    unit: Floats = mean / length
    return unit
