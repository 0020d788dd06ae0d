"""What 30 questions about an image cost, over one: `python -m loadtests.scorers.questions`.

From pixels to scores, another image each round, so that nothing is left of it from the last; one thread, both in turn,
medians of CPU seconds. The networks are those of `loadtests.scorers.vqascore`: a tiny random SmolVLM (17 tiles), whose
prefix with the image is read once for all questions, and a random CLIP-FlanT5 of T5-base's sizes, whose tower reads the
image once and whose encoder reads what comes of it with each question. For that one the ratio is also counted in
multiplications: both ways of its attention make every token of the image another one for every question, so that no
more than that can be shared, but for the first block's projections.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.goldens.vqascore import GOLDEN
from loadtests.scorers.interleaved import Program, add_out, interleave, report
from loadtests.scorers.product import Pixels, encode, open_context
from loadtests.scorers.vqascore import write_flant5
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.core.questions import Question
from plumbline_models.networks.flant5.pair_encoder import FlanT5PairEncoder
from plumbline_models.scorers.questions import Questions
from plumbline_models.text.questions import QuestionTemplate

THINGS = ("astronaut", "horse", "bicycle", "cup of coffee", "brick wall", "tabby cat", "street lamp", "wooden table")
ASKED = (
    "Is there a {}?",
    "Is the {} on the left of the image?",
    "Is there more than one {}?",
    "Is the {} in front of something red?",
)
QUESTIONS = tuple(Question(asked.format(thing)) for asked in ASKED for thing in THINGS)[:30]


class Asking:
    """The scorer from pixels to an item's score, loaded."""

    def __init__(self, section: dict[str, Any], context: BuildContext) -> None:
        self._scorer = Questions.build(section, context)
        self.pair, self.template = self._scorer.pair, self._scorer.template
        self._scorer.image.load()
        self._scorer.pair.load()

    def score(self, pixels: Pixels, questions: Sequence[Question]) -> float:
        """The value of one image."""
        image, pair = self._scorer.image, self._scorer.pair
        (encoding,) = encode(image, [image.preprocess(pixels)])
        given = [PairInput(each.text, encoding, self.template) for each in questions]
        answers = encode(pair, [pair.preprocess(each) for each in given])
        (found,) = self._scorer.score(Embedded(pairs=[answers], questions=[questions]))
        if not isinstance(found, Score):
            raise found
        return found.value


def count_multiplications(pair: FlanT5PairEncoder, template: QuestionTemplate) -> float:
    """What 30 questions take of CLIP-FlanT5, over one: no padding, the image's tower once."""
    tower, arch = pair.checkpoint.tower_arch, pair.checkpoint.t5_arch
    image = np.zeros((tower.num_patches, arch.width), np.float32)
    pairs = [pair.preprocess(PairInput(each.text, image, template)) for each in QUESTIONS]
    head_tokens = pair.checkpoint.pieces.encode(template.head)
    of_tower = tower.num_patches * (3 * tower.patch_px**2 + tower.projected_width) * tower.width
    of_tower += tower.num_patches * tower.projected_width**2
    read = 1 + tower.num_patches
    of_tower += tower.num_blocks * read * (4 * tower.width + 2 * tower.ffn_width + 2 * read) * tower.width
    of_pairs = []
    for each in pairs:
        read, answered = len(head_tokens) + tower.num_patches + len(each.tail_ids), len(each.answer_ids)
        block = read * ((4 * arch.width + 2 * read) * arch.inner_width + 3 * arch.width * arch.ffn_width)
        folded = 2 * arch.num_heads * read * arch.width  # reading tokens that are never projected
        step = 8 * arch.width * arch.inner_width + folded + 3 * arch.width * arch.ffn_width
        decoder = answered * (arch.num_decoder_blocks * step + arch.width * arch.num_tokens)
        of_pairs.append(arch.num_encoder_blocks * block + decoder)
    return (of_tower + sum(of_pairs)) / (of_tower + of_pairs[0])


def measure(asking: Asking, num_rounds: int) -> dict[str, Any]:
    """The cost of 30 questions over that of one, in turn."""
    images = np.random.default_rng(0).integers(0, 256, (2, num_rounds + 1, 512, 512, 3), dtype=np.uint8)
    programs: dict[str, Program] = {
        "one": lambda number: asking.score(images[0, number], QUESTIONS[:1]),
        "thirty": lambda number: asking.score(images[1, number], QUESTIONS),
    }
    measured = interleave(programs, num_rounds=num_rounds)
    over_one = measured["thirty"]["median_cpu_s"] / measured["one"]["median_cpu_s"]
    return {"over_one": round(over_one, 2), **measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="openvino", help="what runs the networks")
    parser.add_argument("--case", choices=("smolvlm", "flant5"), action="append", help="default: both")
    add_out(parser)
    options = parser.parse_args()
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in options.case or ("smolvlm", "flant5"):
            context = open_context(options.backend, precision="fp32", cache_dir=folder)
            section = {"model": str(GOLDEN / "smolvlm_tiny")}
            if case == "flant5":
                write_flant5(folder)
                section = {"model": str(folder)}
            asking = Asking(section, context)
            cases[case] = {"backend": options.backend, **measure(asking, options.rounds)}
            if isinstance(pair := asking.pair, FlanT5PairEncoder):
                bound = count_multiplications(pair, asking.template)
                cases[case] |= {"multiplications": round(bound, 2)}
                cases[case] |= {"over_multiplications": round(cases[case]["over_one"] / bound, 2)}
    report("questions", cases, out=options.out)


if __name__ == "__main__":
    main()
