"""F-CLIPScore on small CLIPs of several makes: against autograd, both forms, and what is refused at start-up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from plumbline_models.core.engines import Backend
from plumbline_models.core.errors import ConfigError
from plumbline_models.core.protocols import BuildContext, Embedded, PairInput, Score
from plumbline_models.networks.attribution.jacobian_cache import CaptionMatrices, CaptionMatrix
from plumbline_models.networks.attribution.pairs import CaptionAttribution
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.fclipscore import FClipScore
from plumbline_training.attributions import attributions
from tests.results import succeeded

DIM = 24
CAPTION = "a red circle, beside Two blue squares!"
TWO_FORMS = 1e-7
MAKES = [
    pytest.param(({"width": 32, "heads": 2, "layers": 3}, True), id="quick gelu"),
    pytest.param(({"width": 48, "heads": 3, "layers": 5, "mlp_ratio": 2.5}, False), id="gelu, deeper and wider"),
    pytest.param(({"width": 32, "heads": 4, "layers": 4, "context_length": 40}, False), id="gelu, short context"),
]


@pytest.fixture
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[open_clip.CLIP, Path]:
    """A CLIP of the wanted make, and a folder with its weights."""
    text, quick_gelu = request.param
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, **text}
    torch.manual_seed(3)
    made = open_clip.CLIP(DIM, vision, text, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # norms and biases start at 1 and 0
    config = {"embed_dim": DIM, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in made.state_dict().items() if name != "attn_mask"}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    return made, tmp_path


@pytest.fixture
def images() -> np.ndarray:
    vectors = np.random.default_rng(5).standard_normal((40, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(backend: Backend, **options: Any) -> FClipScore:
    return FClipScore.build(options, BuildContext(backend=backend, registry=EncoderRegistry()))


@pytest.mark.parametrize("clip", MAKES, indirect=True)
@pytest.mark.parametrize("template", ["A photo depicts ", "a photo of", ""], ids=["usual", "no space", "none"])
def test_any_tower_is_attributed_as_autograd_does(
    clip: tuple[open_clip.CLIP, Path], torch_fp32: Backend, images: np.ndarray, template: str
) -> None:
    made, folder = clip
    pair = build(torch_fp32, checkpoint=folder, template=template).pair
    assert pair is not None
    pair.load()
    preprocessed = [pair.preprocess(PairInput(CAPTION, image)) for image in images]
    ids = torch.from_numpy(preprocessed[0].tokenised.ids)[None]
    cosines, expected = attributions(made, ids, torch.from_numpy(images[:1]))
    (one,) = pair.encode(preprocessed[:1])
    many = succeeded(pair.encode(preprocessed))
    assert len(many) > len(preprocessed[0].tail_ids)
    assert isinstance(one, CaptionAttribution)
    assert one.cosine == pytest.approx(float(cosines[0]), abs=1e-6)
    largest = float(expected.abs().max())
    np.testing.assert_allclose(one.tokens, expected[0, 1:-1], atol=1e-5 * largest)
    np.testing.assert_allclose(many[0].tokens, one.tokens, atol=TWO_FORMS)
    assert many[0].cosine == pytest.approx(one.cosine, abs=TWO_FORMS)


@pytest.mark.parametrize("clip", MAKES[:1], indirect=True)
def test_a_caption_meets_more_images_than_it_has_tokens_and_is_cached(
    clip: tuple[open_clip.CLIP, Path], torch_fp32: Backend, images: np.ndarray
) -> None:
    pair = build(torch_fp32, checkpoint=clip[1]).pair
    assert pair is not None
    pair.load()
    many = [pair.preprocess(PairInput(CAPTION, image)) for image in images]
    few = [pair.preprocess(PairInput("two cups", image)) for image in images[:2]]
    first, mixed, again = (succeeded(pair.encode(batch)) for batch in (many, [*few, *many], many))
    for one, two, three in zip(first, mixed[2:], again, strict=True):
        assert np.array_equal(one.tokens, two.tokens)
        assert np.array_equal(one.tokens, three.tokens)


def test_cached_captions_make_room_for_others() -> None:
    matrix = CaptionMatrix(np.ones((2, 8), np.float32))
    cached = CaptionMatrices(max_bytes=2 * matrix.vectors.nbytes)
    for caption in (b"a", b"b", b"b"):
        cached.put(caption, matrix)
    assert cached.get(b"a") is matrix
    cached.put(b"c", matrix)
    assert [cached.get(caption) is matrix for caption in (b"a", b"b", b"c")] == [True, False, True]


def test_matrices_are_cached_only_where_bytes_are_given_for_them_and_look_ups_are_told():
    matrix, told = CaptionMatrix(np.ones((2, 8), np.float32)), []
    for max_bytes in (0, matrix.vectors.nbytes):
        cached = CaptionMatrices(max_bytes, on_lookup=lambda cache, is_hit: told.append((cache, is_hit)))
        cached.put(b"a", matrix)
        cached.get(b"a")
    assert told == [("caption", False), ("caption", True)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            {"arch": "xlm-roberta-base-ViT-B-32", "pretrained": "laion5b_s13b_b90k"},
            "needs CLIP's own text transformer; xlm-roberta-base-ViT-B-32 has another",
            id="hugging face text tower",
        ),
        pytest.param({"arch": "ViT-B-16-SigLIP", "pretrained": "webli"}, "has another", id="not causal"),
        pytest.param({"layers": 4}, "layers must be 1 to 3, not 4", id="more layers than there are"),
        pytest.param({"layers": 0}, r"scorers\.fclipscore\.layers", id="no layers"),
        pytest.param({"epsilon": 1e-5}, r"scorers\.fclipscore\.epsilon", id="epsilon above 0"),
        pytest.param({"mode": "mean"}, r"scorers\.fclipscore\.mode", id="no such mode"),
    ],
)
def test_what_cannot_be_attributed_is_refused_before_anything_is_loaded(
    torch_fp32: Backend, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build(torch_fp32, **options)


@pytest.fixture(scope="module")
def mini(torch_fp32: Backend) -> BuildContext:
    """With the embedded CLIP's attributions loaded and in its registry."""
    context = BuildContext(backend=torch_fp32, registry=EncoderRegistry())
    pair = FClipScore.build({}, context).pair
    assert pair is not None
    pair.load()
    return context


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("... !?", [], id="punctuation only"),
        pytest.param("a <end_of_text> dog", ["a", "<end_of_text>", "dog"], id="control token"),
        pytest.param("<|endoftext|><start_of_text>", ["<|endoftext|><start_of_text>"], id="control tokens only"),
        pytest.param("赤い丸 and مربع أحمر", ["赤い丸", "and", "مربع", "أحمر"], id="CJK and right-to-left"),
        pytest.param("red 🔴👩\u200d🚀 circle", ["red", "🔴👩\u200d🚀", "circle"], id="emoji"),
        pytest.param(
            "e\u0301cole\x00 &amp; caf\u00e9\u00a0noir", ["e\u0301cole", "amp", "caf\u00e9", "noir"], id="marks"
        ),
    ],
)
@pytest.mark.parametrize("mode", ["threshold", "most_negative"])
def test_captions_of_any_kind_are_answered(mini: BuildContext, caption: str, words: list[str], mode: str) -> None:
    answer = ask(FClipScore.build({"mode": mode}, mini), caption)
    assert [word["text"] for word in answer.details["words"]] == words
    assert all(caption[word["start"] : word["end"]] == word["text"] for word in answer.details["words"])
    assert "truncated" not in answer.details
    assert answer.value <= 0
    if not words:
        assert answer.value == 0


def test_an_over_long_caption_is_cut_and_says_so(mini: BuildContext) -> None:
    answer = ask(FClipScore.build({}, mini), " ".join(["circle"] * 500))
    assert answer.details["truncated"] is True
    assert len(answer.details["words"]) == 72


def ask(scorer: FClipScore, caption: str) -> Score:
    image = np.full(128, 128**-0.5, dtype=np.float32)
    pair = scorer.pair
    assert pair is not None
    vectors = pair.encode([pair.preprocess(PairInput(caption, image))])
    (answer,) = scorer.score(Embedded(pairs=vectors, texts=[caption]))
    assert isinstance(answer, Score)
    return answer
