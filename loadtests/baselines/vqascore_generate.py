"""VQAScore of a causal network the straightforward way: one pair at a time, everything anew for each.

As the published program asks families of the first-token kind: image fitted, prompt written and tokenised, the network
run in full by `generate` for one new token at batch 1, a softmax over its scores, one number read off. The
transformers library does all of it; reading the image file, which that program also does for each pair, is left out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    GenerationConfig,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)


class GeneratingVqa:
    """A SmolVLM folder whose tokenizer lies in `tokenizer/`."""

    def __init__(self, folder: Path) -> None:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")  # nosec B615  # of a local folder
        self.network = AutoModelForImageTextToText.from_pretrained(folder).eval()  # nosec B615  # of a local folder
        vision, scale = self.network.config.vision_config, self.network.config.scale_factor
        num_rows = (vision.image_size // vision.patch_size) ** 2 // scale**2
        images = AutoImageProcessor.from_pretrained(folder)  # nosec B615  # of a local folder
        self.processor = Idefics3Processor(
            images, tokenizer, image_seq_len=num_rows, chat_template=tokenizer.chat_template
        )
        self.generation = GenerationConfig(
            max_new_tokens=1, do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
        )

    def score(self, image: NDArray[np.uint8], questions: Sequence[str], answer: str) -> list[float]:
        """The probability of the answer's first token after each question."""
        return [self._score(Image.fromarray(image), question, answer) for question in questions]

    @torch.inference_mode()
    def _score(self, image: Image.Image, question: str, answer: str) -> float:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = self.processor(text=prompt, images=[image], add_special_tokens=False, return_tensors="pt")
        made = self.network.generate(
            **inputs, generation_config=self.generation, output_scores=True, return_dict_in_generate=True
        )
        answer_id = self.processor.tokenizer.encode(answer, add_special_tokens=False)[0]
        return float(made.scores[0].softmax(-1)[0, answer_id])
