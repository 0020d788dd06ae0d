"""QualiCLIP the straightforward way: open_clip's RN50 in eager torch, one image at a time, the attention pool in full.

As the published program computes it on a CPU: float32, no positional embedding, prompts encoded beforehand.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from torch import Tensor
from torch.nn import functional


class EagerQualiClip:
    """Scores images with the tensors of a CLIP RN50.

    Args:
        tensors: Of the image tower, by open_clip's names.
        prompts: `[2P, D]` unit-norm features, good and bad in turn.
    """

    def __init__(self, tensors: Mapping[str, Tensor], prompts: Tensor) -> None:
        self.visual = ModifiedResNet((3, 4, 6, 3), output_dim=1024, heads=32, image_size=224, width=64)
        self.visual.load_state_dict(dict(tensors))
        self.visual.eval()
        self.prompts = prompts
        self.mean, self.std = (
            torch.tensor(values).reshape(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
        )

    def score(self, images: Sequence[NDArray[np.uint8]]) -> list[float]:
        """Score `[H, W, 3]` images of any sizes."""
        return [self._score(image) for image in images]

    @torch.inference_mode()
    def _score(self, image: NDArray[np.uint8]) -> float:
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        visual = self.visual
        maps = visual.stem(((pixels - self.mean) / self.std)[None])
        maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(maps))))
        feature = functional.normalize(_pool(visual.attnpool, maps), dim=1)
        logits = 100 * feature @ self.prompts.T
        return float(logits.reshape(-1, 2).softmax(dim=1)[:, 0].mean())


def _pool(pool: AttentionPool2d, maps: Tensor) -> Tensor:
    tokens = maps.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])
    answers, _ = functional.multi_head_attention_forward(
        query=tokens,
        key=tokens,
        value=tokens,
        embed_dim_to_check=tokens.shape[-1],
        num_heads=pool.num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        training=False,
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return answers[0]
