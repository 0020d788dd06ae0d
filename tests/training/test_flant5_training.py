"""What the embedded CLIP-FlanT5 is asked in training, how it starts, and that it is written as it answers."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.weights import build_image_graph, build_score_graph
from plumbline_models.text.questions import DEFAULT_QUESTION, SLOT
from plumbline_training.answering import END_ID, Answering, parts_of
from plumbline_training.captions import COUNT_WORDS
from plumbline_training.flant5 import draw_patches
from plumbline_training.flant5_layout import t5_arch, tower_arch, tower_state, write_checkpoint
from plumbline_training.pool import draw_shard
from plumbline_training.questions import QuestionDrawer
from plumbline_training.reading_start import start_reading
from plumbline_training.scenes import COLOURS, SHAPES
from plumbline_training.towers import CONFIG, build_clip
from plumbline_training.wordings import train_pieces, write_pieces

NUM_SCENES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("embedded") / "mini-flant5"
    write_pieces(home, seed=1)
    return home


@pytest.fixture(scope="module")
def drawer(folder):
    return QuestionDrawer(folder / "spiece.model")


@pytest.fixture(scope="module")
def pool():
    return draw_shard(5, 96, num_scenes=NUM_SCENES)


def test_the_vocabulary_comes_out_the_same_from_the_same_seed(folder):
    assert train_pieces(1) == (folder / "spiece.model").read_bytes()


@pytest.mark.parametrize("word", [*COLOURS, *SHAPES, *COUNT_WORDS.values()])
def test_each_word_of_the_world_is_one_piece_in_any_case(word, drawer):
    ids = [drawer.pieces.encode(DEFAULT_QUESTION.replace(SLOT, f"a {text}")) for text in (word, word.upper())]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4  # the question up to the caption, "a", the word, the question behind it


def test_each_scene_is_asked_about_once_truly_and_then_falsely(drawer, pool):
    questions = drawer.draw(list(pool.scenes), np.random.default_rng(1), short=0.0)
    for owner in range(NUM_SCENES):
        truths = questions.is_true[questions.owners == owner].tolist()
        assert truths == [True] + [False] * (len(truths) - 1)
    assert not questions.wrong[questions.is_true].any()
    assert questions.wrong[~questions.is_true].any(dim=1).all()
    assert questions.counted[questions.wrong].all()


def test_half_of_the_patches_are_one_of_each_two_neighbours():
    kept = draw_patches(144, np.random.default_rng(1), every=False)
    assert (kept // 2).tolist() == list(range(72))
    assert draw_patches(144, np.random.default_rng(1), every=True).tolist() == list(range(144))


def test_what_is_written_answers_as_what_was_trained(folder, drawer, pool):
    torch.manual_seed(1)
    clip = build_clip(70).eval()
    home = folder.parent / "mini-clip"
    home.mkdir()
    save_file({name: value.contiguous() for name, value in clip.state_dict().items()}, home / "weights.safetensors")
    (home / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    yes_id, no_id = (int(drawer.pieces.encode(answer)[0]) for answer in ("Yes", "No"))
    num_pieces = drawer.pieces.get_piece_size()
    answering = Answering(tower_arch(), t5_arch(num_pieces), yes_id=yes_id, no_id=no_id)
    answering.use_tower(tower_state(clip))
    for parameter in answering.answers.parameters():  # a start that answers evenly would hide what is mixed up
        torch.nn.init.normal_(parameter, std=0.15)
    questions = drawer.draw(list(pool.scenes), np.random.default_rng(2), short=0.5)
    pixels = torch.from_numpy(pool.images)
    with torch.no_grad():
        _, log_yes, _ = answering(pixels, questions, torch.arange(144))
    write_checkpoint(folder, answering)
    found = FlanT5Checkpoint(str(folder))
    graph, image = build_score_graph(found, no_id), build_image_graph(found)
    num_texts = len(questions.owners)
    with torch.no_grad():
        head_ids = torch.full((num_texts, 1), END_ID)
        read, answer = torch.tensor([[0, yes_id]] * num_texts), torch.tensor([[yes_id, END_ID]] * num_texts)
        served, _ = graph(image(pixels)[questions.owners], head_ids, questions.tails, read, answer)
    assert found.aspect == "squash"
    assert (served[:, 0] - log_yes).abs().max() < 0.05 * log_yes.std()  # float16 on disk


def test_patches_start_by_speaking_the_words_of_what_they_show(folder, drawer):
    torch.manual_seed(1)
    pool = draw_shard(6, 96, num_scenes=384)
    answering = Answering(tower_arch(), t5_arch(drawer.pieces.get_piece_size()), yes_id=3, no_id=4)
    answering.use_tower(tower_state(build_clip(70)))
    start_reading(answering.image, answering.answers, pool, drawer.pieces)
    tokens = answering.answers.tokens
    red, red_bare, star, stars = (
        tokens[drawer.pieces.piece_to_id(piece)] for piece in ("\u2581red", "red", "\u2581star", "\u2581stars")
    )
    assert torch.equal(red, red_bare)
    assert torch.cosine_similarity(star, stars, dim=0) > 0.8
    questions = drawer.draw(list(pool.scenes[:4]), np.random.default_rng(3), short=1.0)
    parts = parts_of(answering, torch.from_numpy(pool.images[:4]), questions, torch.arange(144))
    assert all(torch.isfinite(value) for value in parts.values())
