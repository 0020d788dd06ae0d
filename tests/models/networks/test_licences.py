"""Licences of weights: by the names that they are published under, by model cards, and by class."""

from pathlib import Path

import pytest

from plumbline_models.core.errors import LicenceError
from plumbline_models.core.licences import check_licences, licence_class
from plumbline_models.core.protocols import BuildContext, Scorer
from plumbline_models.networks.clip.spec import ClipSection, ClipSpec
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.hpsv3 import HpsV3
from plumbline_models.scorers.imagereward import ImageReward
from plumbline_models.scorers.vqascore import VqaScore
from plumbline_models.weights.licences import card_licence, file_licence, hub_licence, licence_of


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", "permissive"),
        ("apache-2.0", "permissive"),
        ("BSD-3-Clause", "permissive"),
        ("CC-BY-4.0", "permissive"),
        ("cc-by-sa-4.0", "copyleft"),
        ("AGPL-3.0", "copyleft"),
        ("CC BY-NC 4.0", "non-commercial"),
        ("cc-by-nc-sa-4.0", "non-commercial"),
        ("research use only", "non-commercial"),
        ("Qwen research licence, research use only", "non-commercial"),
        ("apple-amlr", "non-commercial"),
        ("Qwen licence", "restricted"),
        ("Llama 2 community licence", "restricted"),
        ("creativeml-openrail-m", "restricted"),
        ("Apple's own licence", "restricted"),
        ("mit, cc-by-nc-4.0", "non-commercial"),
        ("MIT, unknown", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
        ("my-own-words", "unknown"),
        ("none stated; the code's and the base model's is MIT", "unknown"),
        ("not known; the code's is MIT, the base model's Apache-2.0", "unknown"),
        ("see https://huggingface.co/some/research-clip", "unknown"),
    ],
)
def test_a_licence_has_a_class(licence: str, expected: str) -> None:
    assert licence_class(licence) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("facebook/metaclip-b32-400m", "non-commercial"),
        ("timm/vit_base_patch16_clip_224.metaclip_400m", "non-commercial"),
        ("timm/vit_base_patch32_clip_224.openai", "permissive"),
        ("openai/clip-vit-large-patch14", "permissive"),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "permissive"),
        ("laion/CoCa-ViT-B-32-laion2B-s13B-b90k", "permissive"),
        ("google/siglip-so400m-patch14-384", "permissive"),
        ("joaodaniel/RS-M-CLIP", "permissive"),
        ("apple/MobileCLIP-S1-OpenCLIP", "restricted"),
        ("zhiqiulin/clip-flant5-xl", "non-commercial"),
        ("yuvalkirstain/PickScore_v1", "unknown"),
        ("xswu/HPSv2", "permissive"),
        ("someone/else", "unknown"),
    ],
)
def test_published_names_carry_their_licence(name: str, expected: str) -> None:
    assert licence_class(hub_licence(name)) == expected


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: cc-by-nc-4.0\ntags: [clip]\n---\n# A model\n", "cc-by-nc-4.0"),
        ("---\nlicense:\n- mit\n- apache-2.0\n---\n", "mit, apache-2.0"),
        ("---\nlicense: other\nlicense_name: apple-amlr\n---\n", "apple-amlr"),
        ("---\nlicense: other\n---\n", "other"),
        ("# A model\n\nlicense: mit\n", None),
        ("---\ntags: [clip]\n---\n", None),
        ("---\n: : broken\n---\n", None),
        ("---\n!!python/object/apply:os.system ['true']\n---\n", None),
    ],
)
def test_a_model_cards_front_matter_is_read(card: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert card_licence(tmp_path) == expected


def test_a_folders_card_comes_before_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "clip-flant5-xl"
    folder.mkdir()
    assert licence_of(str(folder)) == "research use only"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert licence_of(str(folder)) == "mit"
    assert file_licence(folder / "any.safetensors") == "mit"
    assert licence_class(file_licence(tmp_path / "qualiclip.pth")) == "non-commercial"
    assert file_licence(tmp_path / "mine.pth") == "unknown"


def test_a_clip_beside_a_model_card_has_its_licence(tiny_folder: Path, tmp_path: Path) -> None:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert ClipSpec.of(ClipSection(checkpoint=tmp_path)).licence == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n", encoding="utf-8")
    assert ClipSpec.of(ClipSection(checkpoint=tmp_path)).licence == "cc-by-nc-4.0"


def test_forbidden_weights_are_named_with_scorer_checkpoint_and_licence(torch_fp32) -> None:
    context = BuildContext(torch_fp32, EncoderRegistry())
    vqa = VqaScore.build({"model": "zhiqiulin/clip-flant5-xl"}, context)
    scorers: list[Scorer] = [vqa, ImageReward.build({}, context), HpsV3.build({}, context)]
    check_licences(scorers, ["copyleft", "restricted"])
    check_licences([scorers[1]], ["non-commercial", "unknown"])
    with pytest.raises(LicenceError) as caught:
        check_licences(scorers, ["non-commercial"])
    assert caught.value.detail == (
        "The scorer vqascore uses zhiqiulin/clip-flant5-xl, whose licence is non-commercial (research use only): "
        "licences.forbid forbids that."
    )
    with pytest.raises(LicenceError, match=r"vqascore uses .*\n.*hpsv3 uses MizzenAI/HPSv3, whose licence is unknown"):
        check_licences(scorers, ["non-commercial", "unknown"])
