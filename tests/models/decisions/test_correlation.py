"""A correlation within prompts: that of residuals, whatever prompts differ by; its interval holds what it promises."""

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.correlation import Correlation, within_prompts

PROMPTS, IMAGES = 30, 5


def drawn(seed: int, r: float = 0.5, between: float = 0.0) -> tuple[list[float], list[float], list[int]]:
    """Scores and judgements that correlate by r within prompts; prompts differ by so much in both."""
    rng = np.random.default_rng(seed)
    human, noise = rng.standard_normal((2, PROMPTS, IMAGES))
    level = between * rng.standard_normal((PROMPTS, 1))
    scores = r * human + np.sqrt(1 - r * r) * noise + level
    prompts = np.repeat(np.arange(PROMPTS), IMAGES)
    return scores.ravel().tolist(), (human + level).ravel().tolist(), prompts.tolist()


def test_it_is_the_correlation_of_residuals_of_the_prompts() -> None:
    scores, human, prompts = drawn(1, between=3.0)
    design = np.eye(PROMPTS)[prompts]
    residuals = [
        np.asarray(each) - design @ np.linalg.lstsq(design, np.asarray(each), rcond=None)[0] for each in (scores, human)
    ]
    found = within_prompts(scores, human, prompts)
    assert found.value == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-12)
    assert (found.num_pairs, found.num_prompts) == (PROMPTS * IMAGES, PROMPTS)


def test_easy_prompts_make_no_correlation() -> None:
    """Over all images this score would seem to follow people; among images of one prompt it says nothing."""
    scores, human, prompts = drawn(2, r=0.0, between=3.0)
    assert np.corrcoef(scores, human)[0, 1] > 0.8
    found = within_prompts(scores, human, prompts)
    assert found.low < 0.0 < found.high


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    r, num = 0.5, 2000
    found = [within_prompts(*drawn(seed, r)) for seed in range(num)]
    share = sum(each.low <= r <= each.high for each in found) / num
    assert abs(share - 0.95) < 3 * (0.95 * 0.05 / num) ** 0.5


def test_prompts_of_one_image_do_not_count() -> None:
    scores, human, prompts = drawn(3)
    more = within_prompts([*scores, 9.0, -9.0], [*human, -9.0, 9.0], [*prompts, "alone", "as well"])
    assert more == within_prompts(scores, human, prompts)


def test_one_that_is_perfect_has_no_interval() -> None:
    assert within_prompts([1, 2, 3, 4, 5, 6], [2, 4, 6, 8, 10, 12], "aaabbb") == Correlation(1.0, 1.0, 1.0, 6, 2)


@pytest.mark.parametrize(
    ("scores", "human", "prompts", "field"),
    [
        pytest.param([1, 2, 3, 4], [1, 2, 3, 5], "abcd", "prompts", id="no prompt has two"),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 5], "aabb", "prompts", id="too few"),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 5], "aaa", "prompts", id="prompts of another number"),
        pytest.param([1, 2, 3, 4], [1, 2, 3], "aaaa", "human", id="judgements of another number"),
        pytest.param([1, 1, 1, 1], [1, 2, 3, 4], "aaaa", "scores", id="all the same"),
        pytest.param([0.1] * 3 + [0.7] * 3, [1, 2, 3, 4, 6, 5], "aaabbb", "scores", id="the same within each prompt"),
        pytest.param([1, 2, float("nan"), 4], [1, 2, 3, 4], "aaaa", "scores/2", id="no number"),
    ],
)
def test_what_says_nothing_is_refused(scores, human, prompts: str, field: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        within_prompts(scores, human, prompts)
    errors = refused.value.facts["errors"]
    assert isinstance(errors, list)
    assert errors[0]["pointer"] == f"/{field}"
