import pytest

from plumbline_models.backends.buckets import Launch, LaunchPlan, bucket_of


def test_batches_are_filled_up_to_few_sizes() -> None:
    assert sorted({bucket_of(rows, 64) for rows in range(1, 65)}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]


@pytest.mark.parametrize("largest", [1, 5, 32, 50, 256])
def test_a_bucket_holds_its_rows_and_wastes_at_most_a_third(largest: int) -> None:
    for rows in range(1, largest + 1):
        bucket = bucket_of(rows, largest)
        assert rows <= bucket <= largest
        assert bucket - rows <= bucket / 3


def test_a_shape_is_recorded_when_it_comes_again() -> None:
    plan = LaunchPlan()
    assert [plan.decide("a") for _ in range(4)] == [Launch.PLAIN, Launch.RECORD, Launch.REPLAY, Launch.REPLAY]


def test_what_moved_or_failed_is_not_replayed() -> None:
    plan = LaunchPlan()
    for _ in range(2):
        plan.decide("a")
        plan.decide("b")
    plan.forget("a")
    assert (plan.decide("a"), plan.decide("b")) == (Launch.PLAIN, Launch.REPLAY)
    plan.forget_all()
    assert plan.decide("b") is Launch.PLAIN


def test_shapes_unused_for_longest_make_room() -> None:
    plan = LaunchPlan(max_recorded=2)
    for shape in ("a", "b", "a", "c"):
        plan.decide(shape)
    assert plan.surplus() == ["b"]
    assert plan.surplus() == []
    assert plan.decide("a") is Launch.REPLAY
