"""Captions said otherwise: what each probe changes, what it leaves, and when it makes nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline_models.text.probes import CHANGING, KEEPING, probed


def test_each_probe_changes_what_it_says():
    found = probed("A red circle and a blue square.")
    assert found["attribute_swap"] == "A blue circle and a red square."
    assert found["clauses"] == "a blue square and A red circle."
    assert sorted(found["shuffle"].split()) == sorted(["A", "red", "circle", "and", "a", "blue", "square."])
    words, others = found["one_word"].split(), ["A", "red", "circle", "and", "a", "blue", "square."]
    assert [index for index, word in enumerate(words) if word != others[index]] == [1]
    assert words[1] not in {"red", "blue"}


@pytest.mark.parametrize(
    ("caption", "missing"),
    [
        ("a dog", {"attribute_swap", "one_word", "shuffle", "clauses"}),
        ("a red dog", {"attribute_swap", "clauses"}),
        ("a red dog and a red cat", {"attribute_swap"}),
        ("a dog, a cat and a cow", {"attribute_swap", "one_word", "clauses"}),
        ("a dog and a cat and a cow", {"attribute_swap", "one_word", "clauses"}),
        ("the the the", {"attribute_swap", "one_word", "shuffle", "clauses"}),
        ("", {"attribute_swap", "one_word", "shuffle", "clauses"}),
    ],
)
def test_a_caption_that_a_probe_cannot_change_has_none(caption, missing):
    assert {*CHANGING, *KEEPING} - set(probed(caption)) == missing


def test_words_of_different_classes_are_not_swapped():
    assert probed("a small red ring above a large red star")["attribute_swap"] == (
        "a large red ring above a small red star"
    )
    assert "attribute_swap" not in probed("a small ring above a red star")


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_any_text_is_said_the_same_way_each_time_and_never_as_it_was(caption):
    found = probed(caption)
    assert found == probed(caption)
    assert caption not in found.values()
