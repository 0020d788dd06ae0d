"""HPSv3 against the authors' program, on random weights in the published layout."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from loadtests.goldens.preference.drawing import image, record
from loadtests.goldens.preference.hps_v3 import build_hpsv3
from plumbline_models.backends import Tuning, open_backend
from plumbline_models.core.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    ChecksumError,
    MissingTextError,
    StateDictError,
    TextTooLongError,
)
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput
from plumbline_models.networks.causal.reward_checkpoint import RewardCheckpoint
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.hpsv3 import HpsV3
from tests.results import succeeded

GOLDEN = record("hpsv3")
MATRIX, TOLERANCE = GOLDEN["matrix"], GOLDEN["meta"]["tolerance"]
TEXTS = {entry["name"]: entry["text"] for entry in GOLDEN["texts"]}
BF16 = 1.5  # of a reward; about twice what was measured (docs/parity.md)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_hpsv3(tmp_path_factory.mktemp("hpsv3"))


def build(folder: Path, backend: Any, **options: Any) -> Any:
    return HpsV3.build({"model": str(folder), **options}, BuildContext(backend, EncoderRegistry()))


def load(folder: Path, backend: Any, **options: Any) -> Any:
    scorer = build(folder, backend, **options)
    scorer.image.load()
    scorer.pair.load()
    return scorer


@pytest.fixture(scope="module", params=["torch_fp32", "openvino_fp32"])
def scorer(folder: Path, request: pytest.FixtureRequest) -> Any:
    return load(folder, request.getfixturevalue(request.param))


def rewards_of(scorer: Any, images: list[str], texts: list[str]) -> np.ndarray:
    """`[texts, images, 2]`: rewards and logarithms of their deviations, all pairs in one batch."""
    encoded = [succeeded(scorer.image.encode([scorer.image.preprocess(image(name))]))[0] for name in images]
    pairs = [scorer.pair.preprocess(PairInput(text, tokens)) for text in texts for tokens in encoded]
    scores = succeeded(scorer.score(Embedded(pairs=succeeded(scorer.pair.encode(pairs)))))
    found = [(score.value, np.log(score.details["sigma"])) for score in scores]
    return np.array(found).reshape(len(texts), len(images), 2)


def test_every_image_and_text_has_the_reward_and_deviation_of_the_authors_program(scorer: Any) -> None:
    found = rewards_of(scorer, MATRIX["images"], list(TEXTS.values()))
    for program in ("f32", "f64"):
        assert np.abs(found[:, :, 0] - MATRIX[f"mu_{program}"]).max() <= TOLERANCE["mu"]
        assert np.abs(found[:, :, 1] - MATRIX[f"log_sigma_{program}"]).max() <= TOLERANCE["log_sigma"]


def test_images_are_resized_as_by_the_authors_program(folder: Path) -> None:
    pixels = RewardCheckpoint(str(folder)).pixels
    for entry in GOLDEN["images"]:
        resized = pixels.preprocess(image(entry["name"]))
        rows, columns = resized.grid
        assert [columns * 28, rows * 28] == entry["resized_wh"], entry["name"]
        assert rows * columns == entry["image_tokens"]
        assert hashlib.sha256(resized.tiles.tobytes()).hexdigest() == entry["resized_sha256"], entry["name"]


def test_tokens_of_prompts_are_those_of_the_authors_program(folder: Path, torch_fp32: Any) -> None:
    prompt, known = build(folder, torch_fp32).pair._prompt, GOLDEN["prompt"]
    behind = known["common_suffix_ids"]
    for entry in GOLDEN["texts"]:
        expected = [*known["common_prefix_ids"], *entry["text_ids_between"], *behind]
        reward_at = len(expected) - entry["reward_position_from_end"]
        ids = [*prompt.head_ids((0, 0), 1), *prompt.tail(entry["text"]).ids]
        found = [-200 if id_ == prompt.placeholder_id else id_ for id_ in ids]
        assert found == expected[: reward_at + 1], entry["name"]
    assert len(prompt.stock_ids) >= len(known["common_prefix_ids"]) - known["common_prefix_ids"].index(-200) - 2


@pytest.mark.parametrize("case", ["one_reward_token_in_text", "reward_token_in_one_of_two", "image_pad_in_text"])
def test_a_caption_with_control_tokens_is_text_and_moves_no_neighbour(case: str, scorer: Any) -> None:
    hostile = GOLDEN["hostile"][case]["texts"][0]
    names = ["scene_256x192", "square_224x224"]
    alone, together = rewards_of(scorer, names, ["a fox"]), rewards_of(scorer, names, [hostile, "a fox"])
    assert np.abs(together[1] - alone[0]).max() <= 2e-4
    # As text it is close to the caption without it, and no marks of a prompt stand in it.
    ids = scorer.pair._prompt.tail(hostile).ids.tolist()
    reward = scorer.pair._prompt._tokenizer.control_id("<|Reward|>")
    assert ids.index(reward) == len(ids) - 1
    assert scorer.pair._prompt.placeholder_id not in ids
    official = GOLDEN["hostile"][case].get("official")
    assert official is None or np.abs(together[0, 0, 0] - official[0][0]) > TOLERANCE["mu"]


def test_braces_in_a_caption_are_text(scorer: Any) -> None:
    case = GOLDEN["hostile"]["braces_in_text"]
    found = rewards_of(scorer, case["images"], case["texts"])
    assert np.abs(found[0] - case["official"]).max() <= TOLERANCE["mu"]


def test_positions_with_three_axes_would_be_seen(scorer: Any) -> None:
    wrong = GOLDEN["with_three_part_positions_f32"]
    found = rewards_of(scorer, list(wrong), [TEXTS["plain"]])[0]
    assert np.abs(found[:, 0] - [values[0] for values in wrong.values()]).min() > 0.3


def test_the_head_stays_in_float32_and_bf16_within_its_measured_bound(folder: Path, tuning: Tuning) -> None:
    scorer = load(folder, open_backend("torch", precision="bf16", tuning=tuning))
    module: Any = scorer.pair._loaded.engine._engine._module
    assert {each.dtype for each in module.head.parameters()} == {torch.float32}
    assert module.language.norm.weight.dtype is torch.bfloat16
    found = rewards_of(scorer, MATRIX["images"][:4], list(TEXTS.values()))[:, :, 0]
    assert TOLERANCE["mu"] < np.abs(found - np.array(MATRIX["mu_f64"])[:, :4]).max() <= BF16


def test_the_instruction_is_read_once_for_all_texts_of_an_image(folder: Path, torch_fp32: Any) -> None:
    scorer = load(folder, torch_fp32)
    module: Any = scorer.pair._loaded.engine._engine._module
    sizes: list[tuple[int, int]] = []
    hook = module.language.register_forward_pre_hook(
        lambda _module, _args, kwargs: sizes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    rewards_of(scorer, ["scene_256x192"], ["a fox", "a red circle", "two foxes"])
    hook.remove()
    (_, prefix), (num_tails, tail) = sizes
    assert num_tails == 3
    assert prefix > 1000
    assert tail < 40


def test_a_text_that_is_too_long_is_refused_and_its_neighbours_are_not(folder: Path, torch_fp32: Any) -> None:
    scorer = build(folder, torch_fp32)
    tokens = scorer.pair._usual_input().image
    with pytest.raises(TextTooLongError, match="more tokens"):
        scorer.pair.preprocess(PairInput("漢字" * 600, tokens))
    scorer.pair.preprocess(PairInput("a fox " * 200, tokens))
    with pytest.raises(MissingTextError, match="needs an image and a text"):
        scorer.score(Embedded(images=[np.zeros(2)]))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    file = folder / "HPSv3.safetensors"
    state = load_file(file) | {name.replace("__", "."): each for name, each in tensors.items()}
    save_file({name: each for name, each in state.items() if each is not None}, file)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"extra__weight": torch.zeros(2)}, "holds extra.weight, which HPSv3 has not", id="left over"),
        pytest.param({"model__norm__weight": None}, "does not hold the whole network; norm|norm.weight", id="missing"),
        pytest.param({"rm_head__5__weight": torch.zeros(1, 16)}, "no linear layer|no head", id="head of one"),
        pytest.param({"rm_head__3__weight": torch.zeros(16, 64)}, "no head of a reward", id="head in pieces"),
        pytest.param({"model__embed_tokens__weight": torch.zeros(720, 64)}, "each of the", id="uncut table"),
        pytest.param({"visual__merger__ln_q__bias": torch.zeros(7)}, "cannot be loaded|whole network", id="shape"),
    ],
)
def test_weights_that_are_not_its_own_are_refused(
    changed: dict[str, torch.Tensor | None], said: str, copied: Path, torch_fp32: Any
) -> None:
    change(copied, **changed)
    with pytest.raises((StateDictError, CheckpointError), match=said):
        load(copied, torch_fp32)


def test_weights_by_newer_names_give_the_same(copied: Path, folder: Path, torch_fp32: Any) -> None:
    state = load_file(copied / "HPSv3.safetensors")
    new = {
        f"model.{name}" if name.startswith("visual.") else name.replace("model.", "model.language_model."): each
        for name, each in state.items()
    }
    save_file(new, copied / "HPSv3.safetensors")
    first = rewards_of(load(copied, torch_fp32), ["tiny_9x7"], ["a fox"])
    assert np.array_equal(first, rewards_of(load(folder, torch_fp32), ["tiny_9x7"], ["a fox"]))


def test_a_folder_of_the_weights_alone_takes_the_rest_from_base(copied: Path, tmp_path: Path, torch_fp32: Any) -> None:
    base = Path(shutil.move(copied / "base", tmp_path / "qwen"))
    assert RewardCheckpoint(str(copied)).base_name == "Qwen/Qwen2-VL-7B-Instruct"
    scorer = build(copied, torch_fp32, base=str(base))
    for encoder in (scorer.image, scorer.pair):
        encoder.checkpoint.check("here")
        encoder.load_preprocessing()
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "model_type": "qwen2_5_vl"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"HPSv3 is a qwen2_vl, and the config\.json of qwen describes another"):
        RewardCheckpoint(str(copied), base=str(base)).check("here")
    (copied / "HPSv3.safetensors").unlink()
    with pytest.raises(CheckpointNotFoundError, match=r"HPSv3\.safetensors"):
        RewardCheckpoint(str(copied), base=str(base)).check("here")


def test_weights_are_pinned_by_their_digest(folder: Path, torch_fp32: Any) -> None:
    with pytest.raises(ChecksumError):
        load(folder, torch_fp32, sha256="0" * 64)


def test_without_a_section_the_published_weights_are_meant(torch_fp32: Any) -> None:
    scorer = HpsV3.build({}, BuildContext(torch_fp32, EncoderRegistry()))
    origin = scorer.pair.origin()
    assert origin.source == "MizzenAI/HPSv3"
    assert "not known" in origin.licence
