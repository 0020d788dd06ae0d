"""Scenes, what is said of them, and the two renderers."""

import numpy as np
import pytest

from plumbline_training.captions import changed_words, sample_manner, word
from plumbline_training.claims import NUM_CLAIMS, claims_of, truths_of
from plumbline_training.descriptions import describe, holds
from plumbline_training.evaluation.fields import render
from plumbline_training.foils import KINDS, FoilKind, foil
from plumbline_training.labels import NOTHING, grid_labels
from plumbline_training.paint import paint
from plumbline_training.sampling import sample_scene
from plumbline_training.scenes import Scene
from plumbline_training.styles import sample_style

NUM_SCENES = 60


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(5)
    return [sample_scene(rng) for _ in range(NUM_SCENES)]


def test_a_scene_is_as_the_page_says(scenes: list[Scene]) -> None:
    for scene in scenes:
        short = min(scene.width_px, scene.height_px)
        assert short >= 64
        assert max(scene.width_px, scene.height_px) <= 2 * short
        assert len(scene.things) == sum(group.count for group in scene.groups)
        assert 1 <= len(scene.things) <= 4
        for thing in scene.things:
            assert 0.139 <= thing.diameter_px / short <= 0.451
            assert thing.diameter_px / 2 < thing.x_px < scene.width_px - thing.diameter_px / 2
            assert thing.diameter_px / 2 < thing.y_px < scene.height_px - thing.diameter_px / 2


def test_what_is_described_holds_and_no_foil_does(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(6)
    seen: set[FoilKind] = set()
    for scene in scenes:
        truth = describe(scene, rng)
        assert holds(truth, scene)
        for kind in KINDS:
            false = foil(kind, truth, scene, rng)
            if false is not None:
                seen.add(kind)
                assert not holds(false.description, scene)
    assert seen == set(KINDS)


def test_the_changed_words_of_a_foil_are_words_that_the_caption_lacks(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(7)
    for scene in scenes:
        truth, manner = describe(scene, rng), sample_manner(rng)
        false = foil("colour", truth, scene, rng)
        if false is None:
            continue
        caption, wrong = word(truth, manner), word(false.description, manner)
        changed = [wrong.text[a:b].lower() for a, b in changed_words(caption, wrong)]
        assert len(changed) == 1
        assert changed[0] in {mention.colour for mention in false.description.mentions}


def test_a_seed_draws_the_same_scene_again() -> None:
    first, second = (sample_scene(np.random.default_rng(11)) for _ in range(2))
    assert first == second
    assert np.array_equal(paint(first), paint(second))
    assert np.array_equal(render(first), render(second))


def test_both_renderers_put_the_same_colours_in_the_same_places(scenes: list[Scene]) -> None:
    calm = [scene for scene in scenes if scene.backdrop.kind in {"plain", "gradient"}]
    solid = [scene for scene in calm if all(thing.look.fill == "solid" for thing in scene.things)]
    differences = [np.abs(paint(scene).astype(int) - render(scene)).mean() for scene in solid]
    # Different edges and proportions: a few grey levels of 255. A misplaced object would cost far more. Outlines and
    # stripes of small objects are drawn so differently that they are left out.
    assert len(solid) > 5
    assert np.median(differences) < 2
    assert max(differences) < 8


def test_the_middle_of_a_solid_circle_has_its_colour_in_both_renderers(scenes: list[Scene]) -> None:
    found = 0
    for scene in scenes:
        for thing in scene.things:
            if (thing.look.shape, thing.look.fill) == ("circle", "solid"):
                found += 1
                for image in (paint(scene), render(scene)):
                    assert np.abs(image[int(thing.y_px), int(thing.x_px)].astype(int) - thing.rgb).max() <= 1
    assert found > 0


def test_labels_name_each_object_somewhere_on_the_grid(scenes: list[Scene]) -> None:
    for scene in scenes:
        labels = grid_labels(scene, 8)
        assert (labels == NOTHING).all(axis=-1).any()
        assert (labels != NOTHING).any()


def test_a_true_caption_claims_nothing_that_the_scene_lacks(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(8)
    for scene in scenes:
        said, true = claims_of(describe(scene, rng)), truths_of(scene)
        assert said.shape == (NUM_CLAIMS,)
        assert not (said > true).any()


def test_a_style_changes_how_a_scene_is_drawn_and_not_where(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(9)
    for scene in scenes[:20]:
        plain, styled = (paint(scene).astype(int), paint(scene, sample_style(rng)).astype(int))
        outside = np.ones(plain.shape[:2], dtype=bool)
        ys, xs = np.mgrid[0 : scene.height_px, 0 : scene.width_px]
        for thing in scene.things:
            outside &= np.hypot(xs - thing.x_px, ys - thing.y_px) > 0.75 * thing.diameter_px + 3
        assert np.array_equal(plain[outside], styled[outside])
