"""VQAScore of a CLIP-FlanT5 the straightforward way, with the transformers library's CLIP and T5.

As the published program does it: one call an image, the image repeated for each text, so that fitting, tower and
projector run once a text; encoder and decoder as the library has them; a cross-entropy over the answer's tokens.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionModel, T5ForConditionalGeneration


class RepeatingVqa:
    """Scores texts against one image.

    Args:
        tower: Whose last layer but one is used, without its class row.
        tokenize: Pieces of a prompt to token ids, their end included.
    """

    def __init__(
        self,
        tower: CLIPVisionModel,
        projector: nn.Module,
        t5: T5ForConditionalGeneration,
        tokenize: Callable[[str], Sequence[int]],
    ) -> None:
        self.tower, self.projector, self.t5, self.tokenize = tower, projector, t5, tokenize
        side = tower.config.image_size
        self.processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    @torch.inference_mode()
    def score(self, image: NDArray[np.uint8], prompts: Sequence[tuple[str, str]], answer: str) -> list[float]:
        """The geometric mean of the probabilities of the answer's tokens.

        Args:
            image: `[H, H, 3]`, a square, so that nothing need be padded.
            prompts: What stands before and behind the image, for each text.
        """
        images = [Image.fromarray(image) for _ in prompts]
        pixels = self.processor(images, return_tensors="pt")["pixel_values"]
        rows = self.projector(self.tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:])
        table = self.t5.get_input_embeddings()
        embedded = [
            torch.cat([table(self._ids(head)), row, table(self._ids(tail))])
            for row, (head, tail) in zip(rows, prompts, strict=True)
        ]
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(each)) for each in embedded], batch_first=True)
        labels = self._ids(answer).repeat(len(prompts), 1)
        padded = nn.utils.rnn.pad_sequence(embedded, batch_first=True)
        logits = self.t5(inputs_embeds=padded, attention_mask=mask, labels=labels).logits
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return [float(loss) for loss in (-losses.mean(dim=1)).exp()]

    def _ids(self, text: str) -> Tensor:
        return torch.tensor(list(self.tokenize(text)))
