"""Licences of published weights, as their own pages state them, and those that a folder's model card states.

Nothing is fetched to find one out. What is not known is said to be unknown, or where it can be read.
"""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from plumbline_models.core.protocols import Origin
from plumbline_models.weights.folders import is_folder_name

UNKNOWN: Final = "unknown"
CARD: Final = "README.md"
_PUBLISHED: Final = (
    (r"clip-flant5", "research use only"),  # trained on data under CC BY-NC
    (r"llava-v?1\.5", "Llama 2 community licence"),
    (r"qwen2\.5-vl-3b", "Qwen research licence, research use only"),
    (r"qwen2\.5-vl-72b", "Qwen licence"),
    (r"qwen2\.5-vl-(7|32)b", "Apache-2.0"),
    (r"qwen3-vl", "Apache-2.0"),
    (r"smolvlm", "Apache-2.0"),
    (r"metaclip", "CC-BY-NC-4.0"),
    (r"^visheratin/nllb-", "CC-BY-NC-4.0"),
    (r"^apple/|mobileclip", "Apple's own licence"),
    (r"qualiclip", "CC-BY-NC-4.0"),
    (r"^yuvalkirstain/pickscore", "none stated; the code's and the base model's is MIT"),
    (r"^xswu/hpsv2$", "Apache-2.0"),
    (r"^thudm/imagereward$", "Apache-2.0"),
    (r"^mizzenai/hpsv3$", "not known; the code's is MIT, the base model's Apache-2.0"),
    (r"^openai/clip-|^timm/.*clip.*\.openai$", "MIT"),
    (r"^laion/clip-|^laion/(mscoco_finetuned_)?coca-|^joaodaniel/rs-m-clip", "MIT"),
    (r"^google/siglip|^timm/.*siglip", "Apache-2.0"),
)
"""By a pattern of the hub name, or of a folder that is called alike."""
_FRONT: Final = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_MAX_CARD_CHARS: Final = 1 << 16


def licence_of(name: str, *, otherwise: str = UNKNOWN) -> str:
    """The licence of a checkpoint.

    Args:
        name: A folder, whose model card comes first; or a hub name.
        otherwise: What is said of a name that is not known.
    """
    if is_folder_name(name):
        folder = Path(name).expanduser().resolve()
        return card_licence(folder) or _published(folder.name) or otherwise
    return _published(name) or otherwise


def checkpoint_origin(name: str, *, is_present: bool) -> Origin:
    """Where a checkpoint comes from.

    Args:
        name: A folder, or a hub name; folders are shown by their last part only.
        is_present: Whether its weights are here.
    """
    source = Path(name).expanduser().resolve().name if is_folder_name(name) else name
    return Origin(source=source, licence=licence_of(name), is_present=is_present)


def hub_licence(repository: str) -> str:
    """The licence of a hub repository, or the page that states it."""
    return licence_of(repository, otherwise=f"see https://huggingface.co/{repository}")


def file_licence(file: Path) -> str:
    """The licence of a weights file: of the model card beside it, or of published weights that are called alike."""
    return card_licence(file.parent) or _published(file.stem) or UNKNOWN


def card_licence(folder: Path) -> str | None:
    """What the front matter of a folder's model card gives as `license`; None: nothing, or it cannot be read."""
    try:
        with (folder / CARD).open(encoding="utf-8") as card:
            front = _FRONT.search(card.read(_MAX_CARD_CHARS))
        stated: Any = yaml.safe_load(front[1]) if front else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(stated, dict):
        return None
    licence = stated.get("license")
    names = [str(each) for each in licence] if isinstance(licence, list) else [str(licence)] if licence else []
    if names == ["other"] and stated.get("license_name"):
        names = [str(stated["license_name"])]
    return ", ".join(names) or None


def _published(name: str) -> str | None:
    return next((licence for pattern, licence in _PUBLISHED if re.search(pattern, name.lower())), None)
