"""The graphs that are measured, with random weights of full size or tiny ones, and batches for them.

They are made of the product's own modules, without checkpoints, so that nothing but torch is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch

from plumbline_models.core.arrays import Array
from plumbline_models.core.graph import Dim, Graph, TensorSpec
from plumbline_models.networks.clip.arch import BlockArch, ImageArch
from plumbline_models.networks.clip.image_tower import ClipImage, ImageTower
from plumbline_models.networks.flant5.arch import T5Arch, TowerArch
from plumbline_models.networks.flant5.score_module import FlanT5Score
from plumbline_models.networks.flant5.tower_module import FlanT5Image
from plumbline_models.networks.qualiclip.arch import TrunkArch
from plumbline_models.networks.qualiclip.module import QualiClip

MEAN: Final = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, of pixels in 0..1
STD: Final = (0.26862954, 0.26130258, 0.27577711)
_WEIGHT_STD: Final = 0.01  # of random weights: softmax stays soft, and T5, which scales no scores, within 16 bits
_NUM_PAIRS: Final = 5
_RIVAL_ID: Final = 3


@dataclass(frozen=True)
class Measured:
    """A graph at one size of everything but its batch.

    Args:
        label: For people.
        batches: Rows that are measured; the last is the largest.
        sizes: Of its other dimensions, by name.
        unit: What a row is: images or pairs.
        make: Its module, for counting; on the device that torch is told.
    """

    label: str
    graph: Graph
    make: Callable[[], torch.nn.Module]
    batches: tuple[int, ...]
    sizes: Mapping[str, int]
    unit: str

    def draw(self, num_rows: int) -> dict[str, Array]:
        """A batch of random inputs that the graph takes."""
        rng = np.random.default_rng(num_rows)
        return {spec.name: self._draw(spec, num_rows, rng) for spec in self.graph.inputs}

    def _draw(self, spec: TensorSpec, num_rows: int, rng: np.random.Generator) -> Array:
        shape = [
            self.sizes.get(size.name, min(num_rows, size.high)) if isinstance(size, Dim) else size
            for size in spec.shape
        ]
        if spec.dtype == "uint8":
            return rng.integers(0, 256, shape, dtype=np.uint8)
        if spec.dtype == "float32":
            values = rng.standard_normal(shape).astype(np.float32)
            return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)
        return rng.integers(1, spec.num_ids or 2, shape)


@dataclass(frozen=True)
class Shapes:
    """What is measured, the most important first, since time may run out.

    Args:
        images: CLIP's image towers; JPEGs are scored by the first.
        batches: Of image towers.
        resnet: QualiCLIP's.
        resnet_px: Height and width of its images.
        tower: CLIP-FlanT5's.
        language: CLIP-FlanT5's.
        question: Tokens before the image, behind it, and of the answer.
    """

    images: Mapping[str, ImageArch]
    batches: tuple[int, ...]
    resnet: TrunkArch
    resnet_px: tuple[int, int]
    tower: TowerArch
    language: T5Arch
    question: tuple[int, int, int]

    def measured(self) -> Sequence[Measured]:
        """Every graph, in order."""
        first, *others = [self._image(name) for name in self.images]
        return [first, *self._flant5(), *others, self._resnet()]

    def _image(self, name: str) -> Measured:
        arch = self.images[name]
        side = arch.patch_px * int(arch.num_patches**0.5)
        return self._of_pixels(f"{name} image", (side, side), partial(_clip_image, arch), arch.embed_dim)

    def _resnet(self) -> Measured:
        height, width = self.resnet_px
        label = f"RN50 {width}x{height}"
        return self._of_pixels(label, self.resnet_px, partial(_qualiclip, self.resnet), _NUM_PAIRS)

    def _of_pixels(
        self, label: str, sides: tuple[int, int], make: Callable[[], torch.nn.Module], num_values: int
    ) -> Measured:
        batch = Dim("batch", 1, min(8, self.batches[-1]), self.batches[-1])
        graph = Graph(
            label.replace(" ", "_"),
            (TensorSpec("pixels", "uint8", (batch, *sides, 3)),),
            ("values",),
            f"random {label} of {num_values}",
            partial(_random, make),
            output_shapes=((batch, num_values),),
        )
        return Measured(label, graph, make, self.batches, {}, "images")

    def _flant5(self) -> list[Measured]:
        tower, language = self.tower, self.language
        head, tail, answer = self.question
        largest = min(32, self.batches[-1])
        batch, answers = Dim("batch", 1, min(8, largest), largest), Dim("answer", 2, answer, 256)
        side = tower.image_px
        make_image, make_score = partial(FlanT5Image, tower), partial(FlanT5Score, language, _RIVAL_ID)
        image = Graph(
            "flant5_image",
            (TensorSpec("pixels", "uint8", (batch, side, side, 3)),),
            ("image_encodings",),
            f"random {tower}",
            partial(_random, make_image),
            output_shapes=((batch, tower.num_patches, tower.projected_width),),
        )
        ids = {"num_ids": language.num_tokens}
        score = Graph(
            "flant5_score",
            (
                TensorSpec("image_encodings", "float32", (batch, tower.num_patches, language.width)),
                TensorSpec("head_ids", "int64", (batch, Dim("head", 1, head, 256)), **ids),
                TensorSpec("tail_ids", "int64", (batch, Dim("tail", min(8, tail), tail, 1024)), **ids),
                TensorSpec("read_ids", "int64", (batch, answers), **ids),
                TensorSpec("answer_ids", "int64", (batch, answers), **ids),
            ),
            ("answer_log_probs", "rival_log_prob"),
            f"random {language}",
            partial(_random, make_score),
            output_shapes=((batch, answers), (batch, 1)),
            exceeds_fp16=True,
        )
        sizes = {"head": head, "tail": tail, "answer": answer}
        batches = tuple(size for size in self.batches if size <= largest)
        return [
            Measured("CLIP-FlanT5-XL image", image, make_image, batches, sizes, "images"),
            Measured("CLIP-FlanT5-XL score", score, make_score, batches, sizes, "pairs"),
        ]


def _vit(
    width: int, num_blocks: int, *, side_px: int, patch_px: int, embed_dim: int, head_width: int = 64
) -> ImageArch:
    block = BlockArch(width, width // head_width, 4 * width, 1e-5, has_quick_gelu=True)
    return ImageArch(block, num_blocks, patch_px, (side_px // patch_px) ** 2, embed_dim)


def _t5_tower(width: int, num_blocks: int, *, side_px: int, num_heads: int, projected_width: int) -> TowerArch:
    return TowerArch(
        image_px=side_px,
        patch_px=14,
        width=width,
        num_blocks=num_blocks,
        num_heads=num_heads,
        ffn_width=4 * width,
        norm_epsilon=1e-5,
        has_quick_gelu=True,
        mean=MEAN,
        std=STD,
        projected_width=projected_width,
    )


def _t5(width: int, num_blocks: int, *, num_heads: int, head_width: int, ffn_width: int, num_tokens: int) -> T5Arch:
    return T5Arch(
        width=width,
        head_width=head_width,
        num_heads=num_heads,
        ffn_width=ffn_width,
        num_encoder_blocks=num_blocks,
        num_decoder_blocks=num_blocks,
        num_buckets=32,
        max_distance=128,
        norm_epsilon=1e-6,
        num_tokens=num_tokens,
        start_id=0,
    )


FULL: Final = Shapes(
    images={
        "ViT-L/14-336": _vit(1024, 24, side_px=336, patch_px=14, embed_dim=768),
        "ViT-L/14": _vit(1024, 24, side_px=224, patch_px=14, embed_dim=768),
        "ViT-B/32": _vit(768, 12, side_px=224, patch_px=32, embed_dim=512),
    },
    batches=(1, 8, 32, 64),
    resnet=TrunkArch((3, 4, 6, 3), 64, 64, 1024),
    resnet_px=(384, 512),
    tower=_t5_tower(1024, 23, side_px=336, num_heads=16, projected_width=2048),
    language=_t5(2048, 24, num_heads=32, head_width=64, ffn_width=5120, num_tokens=32100),  # google/flan-t5-xl
    question=(35, 32, 2),
)
TINY: Final = Shapes(
    images={"ViT-L/14-336": _vit(32, 2, side_px=28, patch_px=14, embed_dim=16, head_width=16)},
    batches=(2,),
    resnet=TrunkArch((1, 1, 1, 1), 8, 8, 16),
    resnet_px=(32, 48),
    tower=_t5_tower(32, 1, side_px=28, num_heads=2, projected_width=32),
    language=_t5(32, 1, num_heads=2, head_width=16, ffn_width=64, num_tokens=64),
    question=(3, 8, 2),
)
"""The same code on shapes that any machine runs in seconds; its figures say nothing."""


def _clip_image(arch: ImageArch) -> torch.nn.Module:
    return ClipImage(ImageTower(arch), mean=MEAN, std=STD)


def _qualiclip(arch: TrunkArch) -> torch.nn.Module:
    return QualiClip(arch, _NUM_PAIRS, mean=[255 * value for value in MEAN])


def _random(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """On the CPU; numbers are drawn where that is fast."""
    with torch.device("meta"):
        module = make()
    fast = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to_empty(device=fast)
    generator = torch.Generator(fast).manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 1 and name.endswith("weight"):
                weight.fill_(1.0)  # of a norm
            else:
                weight.normal_(std=_WEIGHT_STD, generator=generator)
    return module.to("cpu").eval()
