"""pyiqa's metric `qualiclip`, with a checkpoint of ours in place of what it would download."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

TEMPERATURE = 1.0  # a scale of 100, as the authors' program has it and ours; pyiqa's own default is 2


class PyiqaQualiClip:
    """Its metric as its documentation uses it: one image a call.

    Args:
        state: Of a whole CLIP RN50, by open_clip's names, its scale 100.
        prompts: `[14, 1024]` unit-norm features of its prompts.
        folder: For the two files that it reads; empty.
    """

    def __init__(self, state: Mapping[str, Tensor], prompts: Tensor, folder: Path) -> None:
        os.environ["TORCH_HOME"] = str(folder)  # where it looks before it downloads; read when it is imported
        downloaded = Path(torch.hub.get_dir()) / "pyiqa" / "QualiCLIP.pth"
        downloaded.parent.mkdir(parents=True)
        torch.save(
            {f"clip_model.{name}": each for name, each in state.items()} | {"prompts_features": prompts}, downloaded
        )
        torch.jit.save(_archive(state), folder / "backbone.pt")
        import pyiqa  # noqa: PLC0415 - see above

        self._metric = pyiqa.create_metric(
            "qualiclip", device="cpu", backbone=str(folder / "backbone.pt"), temperature=TEMPERATURE
        )

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[float]:
        """Score `[H, W, 3]` images of any sizes."""
        return [float(self._metric(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)) for pixels in images]


def _archive(state: Mapping[str, Tensor]) -> torch.jit.ScriptModule:
    """Nothing but tensors, in the form of OpenAI's files: pyiqa reads no other, a state dict ends in an error."""
    root = nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(last, tensor)
    return torch.jit.script(root)
