"""The workbench of one request."""

import threading

import pytest

from plumbline_serve.bench import Bench
from plumbline_serve.deadline import Deadline


class Interrupted(float):
    """Seconds that let another thread run after the sum so far was read and before the new one is stored."""

    def __new__(cls, value, run):
        self = super().__new__(cls, value)
        self.run = run
        return self

    def __radd__(self, so_far):
        self.run()
        return so_far + float(self)


@pytest.mark.parametrize("stage", ["decode", "fit"])
def test_no_seconds_are_lost_where_threads_spend_at_once(stage):
    spoken: list[float] = []
    bench = Bench(None, Deadline.after_ms(None), on_stage=lambda _, seconds: spoken.append(float(seconds)))
    other = threading.Thread(target=bench._spend, args=(stage, 2.0))

    def run_other() -> None:
        other.start()
        other.join(timeout=0.2)  # it cannot end where it has to wait for its turn

    bench._spend(stage, Interrupted(1.0, run_other))
    other.join()
    assert getattr(bench.spent, stage) == 3.0
    assert sorted(spoken) == [1.0, 2.0]
