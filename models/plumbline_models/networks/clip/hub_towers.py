"""Text towers of the transformers library, as open_clip builds them (`hf_model_name`): where their configuration is.

The configuration is looked for in the checkpoint's folder, below the model's name or the last part of it, then on the
hub. Code that a configuration names is never run: such a one is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from plumbline_models.networks.clip.archs import Arch
from plumbline_models.weights.folders import read_json, refuse_own_code
from plumbline_models.weights.sources import HubFile

MODEL: Final = "hf_model_name"
_CONFIG: Final = "config.json"


def text_settings(arch: Arch) -> Mapping[str, Any]:
    """The settings of the text tower; a model of the transformers library is named by a folder on this machine.

    Raises:
        CheckpointNotFoundError: Its configuration is neither in the checkpoint's folder nor to be had from the hub.
        UnsafeCheckpointError: The configuration names code of its own.
    """
    file = _config_file(arch)
    return arch.text if file is None else {**arch.text, MODEL: str(file.parent)}


def text_facts(arch: Arch) -> tuple[str, ...]:
    """What the text tower's configuration adds to the architecture, for keys; raises as `text_settings`."""
    file = _config_file(arch)
    return () if file is None else (json.dumps(read_json(file), sort_keys=True),)


def _config_file(arch: Arch) -> Path | None:
    name = arch.text.get(MODEL)
    if not name:
        return None
    file = _inside(arch.home, str(name)) or HubFile(str(name), (_CONFIG,)).fetch()
    refuse_own_code(read_json(file), file)
    return file


def _inside(home: Path | None, name: str) -> Path | None:
    """The configuration below the folder of the checkpoint; never outside of it."""
    if home is None:
        return None
    files = [home / each / _CONFIG for each in dict.fromkeys((name, Path(name).name))]
    return next((file for file in files if file.is_file() and file.resolve().is_relative_to(home.resolve())), None)
