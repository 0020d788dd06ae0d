"""PickScore, HPSv2, the aesthetic predictor and CLIPScore one after the other, each image by itself.

What a pipeline does that loads the public models side by side: transformers for PickScore, open_clip for the others,
eager, in float32, one image and its prompt per call. Networks are loaded once.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor


class PreferenceLoop:
    """Four scores of each image for one prompt.

    Args:
        arch: open_clip's name of all networks here.
        clip: Weights for CLIPScore and the aesthetic predictor.
        head: The predictor's linear map, `weight` and `bias`.
        hpsv2: Weights for HPSv2.
        pickscore: A folder of the transformers library.
    """

    def __init__(self, arch: str, *, clip: Path, head: Path, hpsv2: Path, pickscore: Path) -> None:
        self._clip = open_clip.create_model(arch, pretrained=str(clip)).eval()
        self._hpsv2 = open_clip.create_model(arch, pretrained=str(hpsv2)).eval()
        self._head = load_file(head)
        self._pickscore = CLIPModel.from_pretrained(pickscore).eval()  # nosec B615  # of a local folder
        self._processor = CLIPProcessor.from_pretrained(pickscore)  # nosec B615  # of a local folder
        self._tokenize = open_clip.get_tokenizer(arch)
        self._crop = image_transform_v2(PreprocessCfg(resize_mode="shortest"), is_train=False)
        self._letterbox = image_transform_v2(PreprocessCfg(resize_mode="longest", fill_color=0), is_train=False)

    def score(self, files: Sequence[bytes], prompt: str) -> list[dict[str, float]]:
        """Scores by name of each file; of CLIPScore the cosine, which random weights leave below its floor."""
        return [self._score(Image.open(io.BytesIO(data)).convert("RGB"), prompt) for data in files]

    @torch.inference_mode()
    def _score(self, image: Image.Image, prompt: str) -> dict[str, float]:
        tokens = self._tokenize([prompt])
        encoded = self._clip.encode_image(self._crop(image)[None], normalize=True)
        aesthetic = functional.linear(
            self._clip.encode_image(self._crop(image)[None], normalize=True), self._head["weight"], self._head["bias"]
        )
        cosine = (encoded * self._clip.encode_text(tokens, normalize=True)).sum()
        preferred = self._hpsv2.encode_image(self._letterbox(image)[None], normalize=True)
        inputs = self._processor(
            text=prompt, images=image, padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        return {
            "clipscore": float(cosine),
            "aesthetic": float(aesthetic),
            "hpsv2": float((preferred * self._hpsv2.encode_text(tokens, normalize=True)).sum()),
            "pickscore": float(self._pickscore(**inputs).logits_per_image),
        }
