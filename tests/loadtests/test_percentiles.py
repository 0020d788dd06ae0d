"""Percentiles stay within what was seen and refuse too little of it."""

import pytest

from loadtests.service.percentiles import TooFewSamplesError, needed, percentile, require


@pytest.mark.parametrize(("percent", "num_samples"), [(50, 6), (95, 60), (99, 300)])
def test_a_percentile_takes_three_samples_beyond_it(percent, num_samples):
    samples = [float(number) for number in range(num_samples)]
    assert needed(percent) == num_samples
    assert sum(sample > percentile(samples, percent) for sample in samples) == 3
    with pytest.raises(TooFewSamplesError, match=f"{num_samples} samples or more; there are {num_samples - 1}"):
        percentile(samples[1:], percent)


def test_a_percentile_falls_between_its_neighbours():
    assert percentile([3.0, 1.0, 4.0, 2.0, 5.0, 6.0], 50) == 3.5


def test_a_percentile_is_never_beyond_what_was_seen():
    assert percentile([1.0] * 299 + [2.0], 99) <= 2.0
    assert percentile([7.0] * 300, 99) == 7.0


def test_a_program_may_ask_before_it_measures():
    require(300, 99)
    with pytest.raises(TooFewSamplesError, match="299"):
        require(299, 99)
