"""What 30 questions about an image cost, over one: `python -m loadtests.scorers.questions`.

From pixels to scores, another image each round, so that nothing is left of it from the last; one thread, both in turn,
medians of CPU seconds. The networks are those of `loadtests.scorers.vqascore`: a tiny random SmolVLM (17 tiles), whose
prefix with the image is read once for all questions, and a random CLIP-FlanT5 of T5-base's sizes, whose tower reads the
image once and whose encoder reads what comes of it with each question.
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
from plumbline_models.scorers.questions import Questions

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
        self._scorer.image.load()
        self._scorer.pair.load()

    def score(self, pixels: Pixels, questions: Sequence[Question]) -> float:
        """The value of one image."""
        image, pair = self._scorer.image, self._scorer.pair
        (encoding,) = encode(image, [image.preprocess(pixels)])
        given = [PairInput(each.text, encoding, self._scorer.template) for each in questions]
        answers = encode(pair, [pair.preprocess(each) for each in given])
        (found,) = self._scorer.score(Embedded(pairs=[answers], questions=[questions]))
        if not isinstance(found, Score):
            raise found
        return found.value


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
            cases[case] = {"backend": options.backend, **measure(Asking(section, context), options.rounds)}
    report("questions", cases, out=options.out)


if __name__ == "__main__":
    main()
