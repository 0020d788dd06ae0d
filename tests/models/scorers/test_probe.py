"""Heads on encodings against their authors' programs: LAION's aesthetic predictors, V2.5, and heads of one's own."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from loadtests.goldens.preference.aesthetic import build_aesthetic
from loadtests.goldens.preference.drawing import GOLDEN, arrays, image, record
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.errors import ConfigError, MissingImageError, StateDictError, UnsafeCheckpointError
from plumbline_models.core.protocols import BuildContext, Embedded
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.networks.probe.layouts import read_head
from plumbline_models.scorers import anchor_sections
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.probe import Aesthetic, HeadScorer, Nsfw, Probe
from tests.results import succeeded

V2, V2_5 = record("aesthetic"), record("aesthetic_v2_5")
STORED = arrays("aesthetic")
END_TO_END = V2["meta"]["tolerance"]["score"]
HEAD = V2["meta"]["tolerance"]["head_on_given_embedding"]
BF16 = {"linear": 0.15, "relu": 0.45, "v2_5": 0.2}  # about twice what was measured (docs/parity.md)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_aesthetic(tmp_path_factory.mktemp("aesthetic"))


def load(folder: Path, head: str, backend: Any) -> Aesthetic:
    tower = folder / ("siglip" if head == "v2_5" else "clip")
    options = {"encoder": {"checkpoint": str(tower)}, "weights": str(folder / f"{head}.pth")}
    scorer = Aesthetic.build(options, BuildContext(backend, EncoderRegistry()))
    scorer.image.load()
    return scorer


def scores_of(scorer: HeadScorer, images: list[str]) -> list[float]:
    encoded = succeeded(scorer.image.encode([scorer.image.preprocess(image(name)) for name in images]))
    return [score.value for score in succeeded(scorer.score(Embedded(images=encoded)))]


def expected_of(head: str) -> tuple[list[str], list[float]]:
    """Images, and their scores where pixels are made RGB before they are resized, as this service does."""
    if head == "v2_5":
        return V2_5["end_to_end"]["images"], V2_5["end_to_end"]["score_f64"]
    found = V2["end_to_end"]
    first = dict(zip(found["rgb_first"]["images"], found["rgb_first"][f"{head}_f64"], strict=True))
    own = zip(found["images"], found[f"{head}_f64"], strict=True)
    return found["images"], [first.get(name, value) for name, value in own]


@pytest.mark.parametrize("backend", ["torch_fp32", "openvino_fp32"])
@pytest.mark.parametrize("head", ["linear", "relu", "v2_5"])
def test_every_image_has_the_score_of_the_authors_program(
    head: str, backend: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    images, expected = expected_of(head)
    scorer = load(folder, head, request.getfixturevalue(backend))
    np.testing.assert_allclose(scores_of(scorer, images), expected, rtol=0, atol=END_TO_END)


@pytest.mark.parametrize("head", ["linear", "relu", "v2_5"])
def test_bf16_stays_within_its_measured_bound(head: str, folder: Path, tuning: Tuning) -> None:
    images, expected = expected_of(head)
    found = scores_of(load(folder, head, open_backend("torch", precision="bf16", tuning=tuning)), images)
    assert END_TO_END < np.abs(np.subtract(found, expected)).max() <= BF16[head]


@pytest.mark.parametrize("head", ["linear", "relu", "v2_5"])
def test_a_given_embedding_has_the_score_of_the_published_class(head: str, folder: Path) -> None:
    given = STORED["given_v2_5" if head == "v2_5" else "given"].astype(np.float64)
    golden = V2_5["head_on_given_embeddings"] if head == "v2_5" else V2["heads_on_given_embeddings"]
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    units = given / np.where(lengths > 0, lengths, 1)
    expected = golden["score_f64" if head == "v2_5" else f"{head}_f64"]
    stored = read_head(folder / f"{head}.pth", "")
    found = [stored.head.apply(unit) for unit in units[: len(expected)]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=HEAD)
    assert len(stored.head.weights) == (5 if head == "relu" else 1)  # what has no rectifier is multiplied out


def test_the_published_head_has_its_authors_scores(tmp_path: Path, torch_fp32: Any) -> None:
    golden = json.loads((GOLDEN.parent / "sets" / "aesthetic_l14.json").read_text(encoding="utf-8"))
    given, collapsed = golden["cases"]
    affine = {"weight": np.array([collapsed["expected"]["weight"]], np.float32)}
    save_file({**affine, "bias": np.array([collapsed["expected"]["bias"]], np.float32)}, tmp_path / "l14.safetensors")
    scorer = Aesthetic.build(
        {"weights": str(tmp_path / "l14.safetensors")}, BuildContext(torch_fp32, EncoderRegistry())
    )
    vectors = np.array(given["input"]["embedding_unnormalised"])
    units = list((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    found = [score.value for score in succeeded(scorer.score(Embedded(images=units)))]
    assert found == pytest.approx(given["expected"]["score"], abs=golden["meta"]["atol"])


def test_the_head_shares_the_encoder_of_whatever_names_the_same_one(folder: Path, torch_fp32: Any) -> None:
    context = BuildContext(torch_fp32, EncoderRegistry())
    tower = {"checkpoint": str(folder / "clip")}
    ours = Aesthetic.build({"encoder": tower, "weights": str(folder / "linear.pth")}, context)
    assert ours.image is ClipScore.build(tower, context).image
    other = Aesthetic.build({"encoder": tower, "weights": str(folder / "relu.pth")}, context)
    assert other.image is ours.image
    assert other.conventions != ours.conventions
    assert [each.conventions["head"].split()[0] for each in (ours, other)] == ["laion-v2-linear", "laion-v2-relu"]


def test_one_folder_holds_siglip_and_the_head_of_v2_5(folder: Path, tmp_path: Path, torch_fp32: Any) -> None:
    shutil.copytree(folder / "siglip", tmp_path, dirs_exist_ok=True)
    shutil.copy(folder / "v2_5.pth", tmp_path / "aesthetic_predictor_v2_5.pth")
    context = BuildContext(torch_fp32, EncoderRegistry())
    scorer = Aesthetic.build({"model": str(tmp_path)}, context)
    assert scorer.conventions["head_licence"] == "AGPL-3.0"
    with pytest.raises(ConfigError, match="give model, or encoder and weights"):
        Aesthetic.build({"model": str(tmp_path), "weights": "x.pth"}, context)


def write_mlp(file: Path, widths: tuple[int, ...], **more: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    tensors: dict[str, np.ndarray] = {}
    for index, (into, out) in enumerate(pairwise(widths), start=1):
        tensors[f"linear_{index}.weight"] = rng.standard_normal((out, into)).astype(np.float32) * into**-0.5
        tensors[f"linear_{index}.bias"] = rng.standard_normal(out).astype(np.float32)
    save_file({**tensors, **more}, file)
    return tensors


def test_the_safety_detector_is_keras_norm_and_layers_and_a_logistic_function(
    folder: Path, tmp_path: Path, torch_fp32: Any
) -> None:
    rng = np.random.default_rng(5)
    mean, variance = rng.standard_normal(768) * 0.03, rng.random(768) * 1e-3
    variance[7] = 0.0  # a number that never varied where it was trained
    norm = {"norm.mean": mean.astype(np.float32), "norm.variance": variance.astype(np.float32)}
    write_mlp(tmp_path / "nsfw.safetensors", (768, 64, 512, 256, 1), **norm)
    options = {"encoder": {"checkpoint": str(folder / "clip")}, "weights": str(tmp_path / "nsfw.safetensors")}
    scorer = Nsfw.build(options, BuildContext(torch_fp32, EncoderRegistry()))
    layers = torch.nn.Sequential()
    tensors = {
        name: torch.from_numpy(each) for name, each in write_mlp(tmp_path / "again", (768, 64, 512, 256, 1)).items()
    }
    for index in range(1, 5):
        weight = tensors[f"linear_{index}.weight"]
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": tensors[f"linear_{index}.bias"]})
        layers.extend([layer, torch.nn.ReLU()] if index < 4 else [layer])
    unit = rng.standard_normal(768).astype(np.float32)
    unit /= np.linalg.norm(unit)
    unit[7] = norm["norm.mean"][7]
    deviation = np.maximum(np.sqrt(norm["norm.variance"].astype(np.float64)), 1e-7)
    with torch.inference_mode():
        raw = float(layers.double()(torch.from_numpy((unit - norm["norm.mean"]).astype(np.float64) / deviation)))
    [score] = succeeded(scorer.score(Embedded(images=[unit])))
    assert score.details["raw"] == pytest.approx(raw, abs=2e-4)
    assert score.value == pytest.approx(1 / (1 + np.exp(-raw)), abs=2e-4)
    assert scorer.info.higher_is_better is False


def test_the_detector_for_h14_is_cut_to_a_probability(folder: Path, tmp_path: Path, torch_fp32: Any) -> None:
    widths = (768, 1024, 2048, 1024, 256, 128, 16, 1)
    indices = (0, 3, 6, 9, 12, 15, 16)
    layers = torch.nn.Sequential()
    torch.manual_seed(3)
    for place, (into, out) in enumerate(pairwise(widths)):
        more = [torch.nn.ReLU(), torch.nn.Dropout(0.2)] if place < 5 else []
        layers.extend([torch.nn.Linear(into, out), *more])
    assert [int(name.split(".")[0]) for name in layers.state_dict() if name.endswith("weight")] == list(indices)
    torch.save({f"layers.{name}": each for name, each in layers.state_dict().items()}, tmp_path / "h14_nsfw.pth")
    options = {"encoder": {"checkpoint": str(folder / "clip")}, "weights": str(tmp_path / "h14_nsfw.pth")}
    scorer = Nsfw.build(options, BuildContext(torch_fp32, EncoderRegistry()))
    assert scorer.conventions["activation"] == "clip"
    units = np.random.default_rng(1).standard_normal((3, 768)).astype(np.float32)
    with torch.inference_mode():
        expected = layers.eval()(torch.from_numpy(units))[:, 0].tolist()
    scores = succeeded(scorer.score(Embedded(images=list(units))))
    assert [score.details["raw"] for score in scores] == pytest.approx(expected, abs=1e-5)
    assert [score.value for score in scores] == pytest.approx([min(1, max(0, raw)) for raw in expected], abs=1e-5)


@pytest.mark.parametrize(("activation", "value"), [("none", 3.0), ("sigmoid", 0.95257), ("clip", 1.0)])
def test_a_linear_probe_of_ones_own_has_the_activation_that_is_configured(
    activation: str, value: float, folder: Path, tmp_path: Path, torch_fp32: Any
) -> None:
    weight = np.zeros((1, 768), np.float32)
    weight[0, 2] = 2.0
    save_file({"weight": weight, "bias": np.array([1.0], np.float32)}, tmp_path / "probe.safetensors")
    options = {
        "encoder": {"checkpoint": str(folder / "clip")},
        "weights": str(tmp_path / "probe.safetensors"),
        "activation": activation,
    }
    scorer = Probe.build(options, BuildContext(torch_fp32, EncoderRegistry()))
    [score] = succeeded(scorer.score(Embedded(images=[np.eye(768, dtype=np.float32)[2]])))
    assert score.value == pytest.approx(value, abs=1e-5)
    assert score.details == ({} if activation == "none" else {"raw": pytest.approx(3.0)})


def test_an_image_scores_the_same_alone_and_among_others(folder: Path, torch_fp32: Any) -> None:
    scorer = load(folder, "relu", torch_fp32)
    encoded = list(np.random.default_rng(2).standard_normal((20, 768)).astype(np.float32))
    together = scorer.score(Embedded(images=encoded))
    assert together == [scorer.score(Embedded(images=[each]))[0] for each in encoded]


def test_a_head_of_another_encoder_is_refused(folder: Path, torch_fp32: Any) -> None:
    options = {"encoder": {"checkpoint": str(folder / "clip")}, "weights": str(folder / "v2_5.pth")}
    with pytest.raises(ConfigError, match="takes encodings of 48 numbers, and clip makes 768"):
        Aesthetic.build(options, BuildContext(torch_fp32, EncoderRegistry()))


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        pytest.param({"layers.0.weight": (4, 8), "layers.0.bias": (4,)}, "no layout", id="unknown names"),
        pytest.param({"weight": (2, 8), "bias": (2,)}, "ends in 2 numbers", id="two numbers"),
        pytest.param(
            {"linear_1.weight": (4, 8), "linear_1.bias": (4,), "linear_2.weight": (1, 5), "linear_2.bias": (1,)},
            "do not fit together",
            id="misfit",
        ),
        pytest.param(
            {"linear_1.weight": (1, 8), "linear_1.bias": (1,), "norm.mean": (8,)}, "no norm.variance", id="half a norm"
        ),
    ],
)
def test_what_is_no_head_is_refused(tensors: dict[str, tuple[int, ...]], said: str, tmp_path: Path) -> None:
    save_file({name: np.ones(shape, np.float32) for name, shape in tensors.items()}, tmp_path / "head.safetensors")
    with pytest.raises(StateDictError, match=said):
        read_head(tmp_path / "head.safetensors", "")


def test_a_head_with_nan_or_with_code_is_refused(tmp_path: Path) -> None:
    save_file(
        {"weight": np.full((1, 8), np.nan, np.float32), "bias": np.ones(1, np.float32)}, tmp_path / "nan.safetensors"
    )
    with pytest.raises(StateDictError, match="NaN"):
        read_head(tmp_path / "nan.safetensors", "")
    torch.save({"weight": torch.ones(1, 8), "bias": Path("/")}, tmp_path / "code.pth")
    with pytest.raises(UnsafeCheckpointError, match="more than tensors"):
        read_head(tmp_path / "code.pth", "")


def test_a_batch_without_images_is_refused(folder: Path, torch_fp32: Any) -> None:
    with pytest.raises(MissingImageError, match="aesthetic needs an image"):
        load(folder, "linear", torch_fp32).score(Embedded())


def test_paths_inside_of_a_section_are_seen_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    sections = {
        "aesthetic": {"encoder": {"checkpoint": "clip"}, "weights": "heads/linear.pth"},
        "nsfw": {"encoder": {"arch": "ViT-L-14-quickgelu", "pretrained": "openai"}, "weights": "org/name/nsfw.pth"},
    }
    found = anchor_sections(sections, tmp_path)
    assert found["aesthetic"]["encoder"]["checkpoint"] == str(tmp_path / "clip")
    assert found["aesthetic"]["weights"] == str(tmp_path / "heads" / "linear.pth")
    assert found["nsfw"] == sections["nsfw"]
    assert json.dumps(found)
