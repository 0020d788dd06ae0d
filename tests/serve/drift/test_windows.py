"""Windows: fine bins that add up, slices that grow old, references that are chosen later."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.decisions.drift import counted
from plumbline_models.images.image_statistics import ImageStatistics
from plumbline_serve.drift import LiveWindows, Reference, merged
from plumbline_serve.drift.comparing import compare, p_value
from plumbline_serve.drift.windows import Window, binned, entropies, spread, whole

LOOK = ImageStatistics(brightness=0.5, edges=0.1, entropy=0.7)


def window_of(values: np.ndarray) -> Window:
    return Window(Counter(binned(float(each)) for each in values))


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.3, -3e-4, 21.7, 1e29, 1e300, -7e-7, 1e-40])
def test_a_bin_is_the_number_towards_zero_to_eight_bits(value):
    found = binned(value)
    assert binned(found) == found
    assert abs(found) <= abs(value)
    if 1e-6 <= abs(value) <= 1e30:
        assert found == pytest.approx(value, rel=2**-7)
        assert math.copysign(1.0, found) == math.copysign(1.0, value)


def test_bins_keep_the_order_and_are_few():
    values = np.sort(np.random.default_rng(0).normal(size=20_000))
    bins = [binned(float(each)) for each in values]
    assert bins == sorted(bins)
    assert len(set(bins)) < 5000
    edges = [-1.0, -0.25, 0.0, 0.5]
    assert spread(Counter(bins), edges) == counted(bins, edges)


def test_slices_of_processes_add_up_and_old_ones_are_dropped():
    now = [1000.0]
    ours, theirs = (LiveWindows(60.0, clock=lambda: now[0]) for _ in range(2))
    for windows in (ours, theirs):
        windows.scored("clipscore", 0.5, LOOK)
        windows.scored("qualiclip", 0.25, None)
    together = merged([ours.slices(), theirs.slices()])
    found = whole(together, "clipscore")
    assert (found.num_scores, found.scores[0.5], found.images["edges"].total()) == (2, 2, 2)
    assert whole(together, "qualiclip").images == {}
    now[0] += 50.0
    ours.scored("clipscore", 0.75, None)
    assert whole(ours.slices(), "clipscore").num_scores == 2
    now[0] += 10.0
    assert dict(whole(ours.slices(), "clipscore").scores) == {0.75: 1}
    now[0] += 1e6
    assert whole(ours.slices(), "clipscore").num_scores == 0


def test_a_copy_of_the_slices_does_not_grow():
    windows = LiveWindows(60.0, clock=lambda: 0.0)
    windows.scored("clipscore", 0.5, None)
    copy = windows.slices()
    windows.scored("clipscore", 0.5, None)
    assert whole(copy, "clipscore").num_scores == 1


def test_without_drift_p_values_over_fine_bins_are_uniform_too():
    rng = np.random.default_rng(4)
    found = []
    for _ in range(300):
        reference = Reference.of_values([float(each) for each in rng.normal(20.5, 1.3, 1000)], are_probabilities=False)
        value = p_value(reference, window_of(rng.normal(20.5, 1.3, 800)))
        assert value is not None
        found.append(value)
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_a_shift_fires_and_says_how_grave_it_is():
    rng = np.random.default_rng(5)
    reference = Reference.of_values([float(each) for each in rng.beta(4, 2, 5000)], are_probabilities=True)
    same = compare(reference, window_of(rng.beta(4, 2, 2000)), 1.0)
    assert (same.severity, list(same.triggered), same.n, same.m) == ("none", [], 5000, 2000)
    other = compare(reference, window_of(rng.beta(2, 2, 2000)), 25.0)
    assert (other.severity, list(other.triggered)) == ("critical", ["score", "e_value", "uncertainty"])
    assert other.psi is not None
    assert other.psi > 0.1
    few = compare(reference, window_of(rng.beta(2, 2, 99)), 1.0)
    assert (few.psi, few.p_value, few.entropy, few.severity, few.m) == (None, None, None, "none", 99)


def test_images_drift_while_the_scores_do_not():
    rng = np.random.default_rng(6)
    now = [0.0]

    def counted_live(brightness: float) -> LiveWindows:
        windows = LiveWindows(600.0, clock=lambda: now[0])
        for score, bright in zip(rng.uniform(size=1000), rng.normal(brightness, 0.05, 1000), strict=True):
            windows.scored("clipscore", float(score), ImageStatistics(float(bright), 0.1, 0.5))
        return windows

    reference = Reference.of_live(counted_live(0.4).slices(), "clipscore", are_probabilities=False, now_s=600.0)
    assert set(reference.images) == {"brightness"}  # the others are all the same
    found = compare(reference, whole(counted_live(0.45).slices(), "clipscore"), 1.0)
    assert list(found.triggered) == ["images"]
    assert found.severity == "medium"
    assert found.images["brightness"].p_value < 1e-6


def test_a_reference_reads_back_as_it_was_written():
    rng = np.random.default_rng(7)
    live = LiveWindows(600.0, clock=lambda: 0.0)
    for value in rng.uniform(size=500):
        live.scored("vqascore", float(value), ImageStatistics(float(value), float(value) / 2, 0.5))
    for reference in (
        Reference.of_live(live.slices(), "vqascore", are_probabilities=True, now_s=3.5),
        Reference.of_values([float(each) for each in rng.normal(size=200)], are_probabilities=False),
    ):
        written = json.loads(json.dumps(reference.document()))
        assert json.dumps(Reference.from_document(written).document()) == json.dumps(reference.document())
        window = whole(live.slices(), "vqascore")
        assert compare(Reference.from_document(written), window, 1.0) == compare(reference, window, 1.0)


def test_too_little_and_what_does_not_vary_is_no_reference():
    live = LiveWindows(600.0, clock=lambda: 0.0)
    with pytest.raises(InvalidFieldError, match="has 0 scores of clipscore"):
        Reference.of_live(live.slices(), "clipscore", are_probabilities=False, now_s=0.0)
    with pytest.raises(InvalidFieldError, match="hardly differ"):
        Reference.of_values([*(1.0 + i * 1e-6 for i in range(200))], are_probabilities=False)


def test_entropies_of_bins_are_those_of_their_values():
    total, squares, num = entropies(Counter({0.5: 2, 0.0: 1, 1.0: 1}))
    assert (total, squares, num) == pytest.approx((2.0, 2.0, 4))
