"""What bf16 does to scores and to their order: `python -m loadtests.scorers.precision qualiclip`.

Against the numbers of the authors' programs in `tests/golden`, on weights that are rebuilt here. For each set it says
the largest error, and Spearman's correlation of our order with theirs. `fclipscore` has two rows in bf16: as served,
with attributions in fp32 behind a bf16 image tower, and with everything in bf16, which the service does not do.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.stats import spearmanr

from loadtests.goldens import GOLDEN, vqascore
from loadtests.goldens.clips import build_golden, golden_image
from loadtests.goldens.quality_weights import spread_state_dict, vanilla_state_dict
from loadtests.scorers.product import encode, open_context
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.fclipscore import FClipScore
from plumbline_models.scorers.qualiclip import QualiClip
from plumbline_models.scorers.vqascore import VqaScore

AS_PUBLISHED = DecodePolicy(exif_orientation="ignore", alpha="drop")
Row: TypeAlias = dict[str, Any]


def measure_qualiclip(folder: Path, engines: Mapping[str, BuildContext]) -> list[Row]:
    """Scores of 31 images under two sets of weights."""
    golden = json.loads((GOLDEN / "qualiclip" / "golden.json").read_text(encoding="utf-8"))
    cases = [case for case in golden["cases"] if "policy" not in case["tags"]]
    images = [decode((GOLDEN / "qualiclip" / case["file"]).read_bytes(), AS_PUBLISHED) for case in cases]
    vanilla = vanilla_state_dict(golden["seed"])
    rows: list[Row] = []
    for name, state in {"spread": spread_state_dict(vanilla, golden["seed"]), "vanilla": vanilla}.items():
        checkpoint = folder / f"qualiclip-{name}.pth"
        torch.save(dict(state), checkpoint)
        expected = [case[name]["score"] for case in cases]
        for precision, context in engines.items():
            scorer = QualiClip.build({"arch": "RN50-quickgelu", "checkpoint": checkpoint}, context)
            encoder = _loaded(scorer.image)
            answers = scorer.score(Embedded(images=encode(encoder, [encoder.preprocess(image) for image in images])))
            rows.append({"set": name, "precision": precision, **_compare(_values(answers), expected)})
    return rows


def measure_fclipscore(folder: Path, engines: Mapping[str, BuildContext]) -> list[Row]:
    """Cosines, attributions and scores of pairs under two architectures."""
    rows: list[Row] = []
    for name in ("b32_quickgelu", "b16_gelu"):
        clip = build_golden(name, folder)
        cases = [case for case in clip.cases if "f_clipscore" in case and "_of_text>" not in case["caption"]]
        pixels = {image: golden_image(image) for image in clip.image_embeddings}
        for precision, context in engines.items():
            scorer = FClipScore.build({**clip.options, "compat": True}, context)
            image, pair = _loaded(scorer.image), _loaded(scorer.pair)
            embedded = dict(
                zip(pixels, encode(image, [image.preprocess(each) for each in pixels.values()]), strict=True)
            )
            inputs = [PairInput(case["caption"], embedded[case["image"]]) for case in cases]
            found = encode(pair, [pair.preprocess(each) for each in inputs])
            answers = scorer.score(Embedded(pairs=found, texts=[case["caption"] for case in cases]))
            rows.append({"set": name, "precision": precision, **_compare_pairs(cases, found, _values(answers))})
    return rows


def measure_vqascore(folder: Path, engines: Mapping[str, BuildContext]) -> list[Row]:
    """Scores of images by texts."""
    record = json.loads((vqascore.FLANT5 / "golden.json").read_text(encoding="utf-8"))
    images = {entry["name"]: vqascore.draw(entry) for entry in record["images"]}
    rows: list[Row] = []
    for precision, context in engines.items():
        scorer = VqaScore.build({"model": str(vqascore.FLANT5)}, context)
        _loaded(scorer.image), _loaded(scorer.pair)
        found = _answers(scorer, record["cases"][0], images)
        rows.append({"set": "clip-flant5", "precision": precision, **_compare(found, _expected(record))})
        for family in vqascore.FOLDERS:
            record_of = vqascore.record(family)
            case = record_of["cases"][0]
            shown = {name: vqascore.pixels(family, name) for name in case["images"]}
            scorer = vqascore.load(family, vqascore.context(folder, precision, "openvino"))
            found = _answers(scorer, case, shown)
            rows.append({"set": family, "precision": precision, **_compare(found, _expected(record_of))})
    return rows


def _answers(scorer: Any, case: Mapping[str, Any], images: Mapping[str, Any]) -> list[float]:
    """Scores of every image of a case with each of its texts, one pair at a time."""
    values = []
    for name in case["images"]:
        [encoding] = encode(scorer.image, [scorer.image.preprocess(images[name])])
        for text in case["texts"]:
            pairs = encode(scorer.pair, [scorer.pair.preprocess(PairInput(text, encoding))])
            values += _values(scorer.score(Embedded(pairs=pairs)))
    return values


def _expected(record: Mapping[str, Any]) -> list[float]:
    return [float(value) for value in np.ravel(record["cases"][0]["scores_ref_f64"])]


def _compare_pairs(cases: Sequence[Mapping[str, Any]], found: Sequence[Any], values: Sequence[float]) -> Row:
    cosines = _compare([each.cosine for each in found], [case["cos"] for case in cases])
    tokens = [(each.tokens, np.array(case["token_attr"])) for each, case in zip(found, cases, strict=True)]
    relative = [np.abs(ours - theirs).max(initial=0) / np.abs(theirs).max(initial=1e-9) for ours, theirs in tokens]
    scores = _compare(values, [case["f_clipscore"]["-5e-05"] for case in cases])
    return {
        "largest_cosine_error": cosines["largest_error"],
        "largest_attribution_error_of_row_maximum": float(f"{max(relative):.1e}"),
        "spearman_of_cosines": cosines["spearman"],
        **scores,
    }


def _compare(found: Sequence[float], expected: Sequence[float]) -> Row:
    error = np.abs(np.array(found) - np.array(expected)).max()
    order = spearmanr(found, expected).statistic
    return {"cases": len(expected), "largest_error": float(f"{error:.1e}"), "spearman": round(float(order), 5)}


def _values(answers: Sequence[Any]) -> list[float]:
    return [answer.value for answer in answers if isinstance(answer, Score)]


def _loaded(encoder: Any) -> Any:
    encoder.load()
    return encoder


SCORERS: Mapping[str, Callable[[Path, Mapping[str, BuildContext]], list[Row]]] = {
    "qualiclip": measure_qualiclip,
    "fclipscore": measure_fclipscore,
    "vqascore": measure_vqascore,
}


def main() -> None:
    """Measure one scorer and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scorer", choices=SCORERS)
    scorer = parser.parse_args().scorer
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = Path(folder)
        served = {p: open_context("openvino", precision=p, cache_dir=cache_dir) for p in ("fp32", "bf16")}
        engines = dict(served)
        if scorer == "fclipscore":
            engines["all bf16"] = BuildContext(served["bf16"].backend, EncoderRegistry())
        print(
            json.dumps({"scorer": scorer, "backend": "openvino", "rows": SCORERS[scorer](cache_dir, engines)}, indent=2)
        )


if __name__ == "__main__":
    main()
