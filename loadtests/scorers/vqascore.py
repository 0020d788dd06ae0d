"""How much less CPU time our VQAScore takes than the straightforward one: `python -m loadtests.scorers.vqascore`.

One image by eight texts, from pixels to scores, another image each round, so that nothing is left of it from the last;
one thread, both programs in one process and in turn, medians of CPU seconds. Cases:

- `smolvlm`: a tiny random SmolVLM (`tests/golden/vqascore/smolvlm_tiny`, 17 tiles), against one `generate` a pair;
- `flant5`: a random CLIP-FlanT5 of T5-base's sizes (768 wide, 12 + 12 layers, 12 heads, 2048 in the feed-forward
  part) with a ViT-B/16 tower of 224 px, against the library's CLIP and T5 with the image repeated for each text.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5ForConditionalGeneration

from loadtests.baselines.vqascore_generate import GeneratingVqa
from loadtests.baselines.vqascore_t5 import RepeatingVqa
from loadtests.goldens.vqascore import FLANT5, GOLDEN
from loadtests.scorers.interleaved import Program, add_out, interleave, ratios, report
from loadtests.scorers.product import encode, open_context
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.networks.causal.families import CAUSAL_FAMILIES
from plumbline_models.scorers.vqascore import VqaScore
from plumbline_models.text.questions import QuestionTemplate

TEXTS = (
    *("an astronaut in an orange suit smiling in front of a flag", "a cup of coffee on a wooden table with a spoon"),
    *("a tabby cat looking at the camera", "the horse is eating the grass"),
    *("the grass is eating the horse", "Two dogs, one red car & 3 coins!"),
    *("someone talks on the phone angrily", "a red bicycle leans against a brick wall"),
)
T5_SIZES = {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_heads": 12, "num_layers": 12, "num_decoder_layers": 12}
TOWER_SIZES = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
Scoring = Callable[[NDArray[np.uint8], Sequence[str]], list[float]]


def open_ours(section: dict[str, Any], context: BuildContext) -> Scoring:
    scorer = VqaScore.build(section, context)
    image, pair = scorer.image, scorer.pair
    image.load()
    pair.load()

    def score(pixels: NDArray[np.uint8], texts: Sequence[str]) -> list[float]:
        (encoding,) = encode(image, [image.preprocess(pixels)])
        encodings = encode(pair, [pair.preprocess(PairInput(text, encoding)) for text in texts])
        return [each.value for each in scorer.score(Embedded(pairs=encodings)) if isinstance(each, Score)]

    return score


def smolvlm(context: BuildContext) -> tuple[Scoring, Scoring]:
    folder, family = GOLDEN / "smolvlm_tiny", CAUSAL_FAMILIES["smolvlm"]
    baseline = GeneratingVqa(folder)

    def theirs(pixels: NDArray[np.uint8], texts: Sequence[str]) -> list[float]:
        return baseline.score(pixels, [family.question.replace("{}", text) for text in texts], family.answer)

    return open_ours({"model": str(folder), "family": "smolvlm"}, context), theirs


def flant5(context: BuildContext, folder: Path) -> tuple[Scoring, Scoring]:
    tower, projector, t5 = write_flant5(folder)
    ours = VqaScore.build({"model": str(folder)}, context)
    pieces = ours.pair.checkpoint.pieces
    baseline, template = (
        RepeatingVqa(tower, projector, t5, lambda text: pieces.encode(text).tolist()),
        QuestionTemplate(),
    )

    def theirs(pixels: NDArray[np.uint8], texts: Sequence[str]) -> list[float]:
        return baseline.score(pixels, [(template.head, template.tail(text)) for text in texts], template.answer)

    return open_ours({"model": str(folder)}, context), theirs


def write_flant5(folder: Path) -> tuple[CLIPVisionModel, nn.Module, T5ForConditionalGeneration]:
    """Random weights in the published layout, and the same as the library's modules."""
    torch.manual_seed(0)
    shutil.copytree(FLANT5 / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    tiny = json.loads((FLANT5 / "config.json").read_text(encoding="utf-8"))
    num_tokens = json.loads((FLANT5 / "golden.json").read_text(encoding="utf-8"))["scored_vocab"]
    t5_config = T5Config(
        **T5_SIZES, vocab_size=num_tokens, feed_forward_proj="gated-gelu", tie_word_embeddings=False, dropout_rate=0.0
    )
    tower_config = CLIPVisionConfig(**TOWER_SIZES, image_size=224, patch_size=16, hidden_act="quick_gelu")
    width = T5_SIZES["d_model"]
    t5, tower = T5ForConditionalGeneration(t5_config).eval(), CLIPVisionModel(tower_config).eval()
    t5.lm_head.weight = nn.Parameter(0.05 * torch.randn_like(t5.lm_head.weight))  # tied in the library alone
    t5.config.scale_decoder_outputs = False
    t5.config.decoder_start_token_id = 0
    projector = nn.Sequential(nn.Linear(TOWER_SIZES["hidden_size"], width), nn.GELU(), nn.Linear(width, width)).eval()
    state = {name: tensor for name, tensor in t5.state_dict().items() if "embed_tokens" not in name}
    state |= {f"mm_projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    prefix = "vision_tower.vision_tower.vision_model."
    state |= {
        prefix + name.removeprefix("vision_model."): tensor
        for name, tensor in tower.state_dict().items()
        if not name.endswith("position_ids")
    }
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    config = {**tiny, **T5_SIZES, "vocab_size": num_tokens, "mm_hidden_size": TOWER_SIZES["hidden_size"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "vision_config.json").write_text(json.dumps(tower_config.to_dict()), encoding="utf-8")
    return tower, projector, t5


def measure(ours: Scoring, theirs: Scoring, num_rounds: int) -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (num_rounds + 1, 512, 512, 3), dtype=np.uint8)
    found: dict[str, list[float]] = {}
    programs: dict[str, Program] = {
        "ours": lambda number: found.update(ours=ours(images[number], TEXTS)),
        "straightforward": lambda number: found.update(theirs=theirs(images[number], TEXTS)),
    }
    measured = interleave(programs, num_rounds=num_rounds)
    error = max(abs(a - b) / b for a, b in zip(found["ours"], found["theirs"], strict=True))  # of the last round
    return {"ratio": ratios(measured, "straightforward"), "largest_relative_error": float(f"{error:.1e}"), **measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="openvino", help="what runs ours")
    parser.add_argument("--case", choices=("smolvlm", "flant5"), action="append", help="default: both")
    add_out(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "smolvlm" in (options.case or ("smolvlm",)):
            programs = smolvlm(open_context(options.backend, precision="fp32", cache_dir=folder))
            cases["smolvlm"] = {"backend": options.backend, **measure(*programs, options.rounds)}
        if "flant5" in (options.case or ("flant5",)):
            programs = flant5(open_context(options.backend, precision="fp32", cache_dir=folder), folder)
            cases["flant5"] = {"backend": options.backend, **measure(*programs, options.rounds)}
    report("vqascore", cases, out=options.out)


if __name__ == "__main__":
    main()
