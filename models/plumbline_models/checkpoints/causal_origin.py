"""What can be said of a causal checkpoint by its name, before anything is fetched."""

import re
from pathlib import Path
from typing import Final

from plumbline_models.checkpoints.flant5_folders import has_weights, is_folder_name
from plumbline_models.core.protocols import Origin

LICENCES: Final = (
    (r"llava-v?1\.5", "Llama 2 community licence"),
    (r"qwen2\.5-vl-3b", "Qwen research licence, research use only"),
    (r"qwen2\.5-vl-72b", "Qwen licence"),
    (r"qwen2\.5-vl-(7|32)b", "Apache-2.0"),
    (r"qwen3-vl", "Apache-2.0"),
    (r"smolvlm", "Apache-2.0"),
)
"""As the checkpoints' own pages state them, by a pattern of the name; anything else is `unknown`."""


def causal_origin(name: str) -> Origin:
    """Where a checkpoint comes from.

    Args:
        name: A folder, or a hub name; folders are shown by their last part only.
    """
    last = Path(name).expanduser().resolve().name if is_folder_name(name) else name
    found = (licence for pattern, licence in LICENCES if re.search(pattern, Path(last).name.lower()))
    return Origin(source=last, licence=next(found, "unknown"), is_present=has_weights(name))
