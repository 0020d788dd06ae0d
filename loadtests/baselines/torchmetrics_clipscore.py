"""torchmetrics' CLIPScore, with a CLIP of ours in place of one that it would download."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.multimodal import CLIPScore
from transformers import CLIPModel, CLIPProcessor

PERCENT = 100  # its CLIPScore is a hundred times the cosine, floored at zero


class TorchmetricsClipScore:
    """Its metric as its documentation uses it: a batch of pairs in, the mean of their scores out.

    Args:
        folder: A CLIP in the Hugging Face library's layout.
    """

    def __init__(self, folder: Path) -> None:
        self._metric = CLIPScore(lambda: (CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)))  # nosec B615  # of a local folder

    def score(self, pairs: Sequence[tuple[NDArray[np.uint8], str]]) -> float:
        """The mean cosine of `[H, W, 3]` images and their captions; 0 where it is negative."""
        images = [torch.from_numpy(pixels).permute(2, 0, 1) for pixels, _ in pairs]
        score = self._metric(images, [caption for _, caption in pairs])
        self._metric.reset()
        return float(score) / PERCENT
