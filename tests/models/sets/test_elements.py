"""Elements of captions and images."""

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.elements import any_rate, association, mentioned, missing_rate

GOLDEN: list[dict[str, Any]] = json.loads(Path("tests/golden/sets/bias_distribution.json").read_text(encoding="utf-8"))[
    "cases"
]
(CASE,) = [case for case in GOLDEN if case["name"] == "text_rates"]


@pytest.mark.parametrize("whole_words", [True, False], ids=["whole words", "substrings"])
def test_rates_of_captions_are_the_programs(whole_words):
    given, expected = CASE["input"], CASE["expected"]
    present = mentioned(given["captions"], given["elements"], whole_words=whole_words)
    stereotypical, diverse = (
        mentioned(given["captions"], given[name], whole_words=whole_words)
        for name in ("stereotype_terms", "diverse_terms")
    )
    assert missing_rate(present) == pytest.approx(expected["missing_rate"])
    assert any_rate(stereotypical) == pytest.approx(expected["hallucination_rate_of_stereotype_terms"])
    assert association(stereotypical, diverse) == pytest.approx(expected["cas"], rel=1e-9)


def test_a_laboratory_has_no_rat_unless_the_program_is_followed():
    captions = ["A mouse in a laboratory", "a Rat, sitting"]
    assert mentioned(captions, ["rat"]).tolist() == [[False], [True]]
    assert mentioned(captions, ["rat"], whole_words=False).tolist() == [[True], [True]]
    assert mentioned(captions, ["c++ (code)"]).tolist() == [[False], [False]]


def test_no_elements_have_no_rate_and_an_empty_one_is_refused():
    assert missing_rate(mentioned(["a"], [])) is None
    assert any_rate(mentioned(["a"], [])) is None
    with pytest.raises(InvalidFieldError):
        mentioned(["a"], [" "])
