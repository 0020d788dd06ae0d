import pickle

import pytest

from plumbline_client import CapacityError, ConnectError, Problem, RetryPolicy, TransportError, UsageError
from plumbline_client.calls import Call, Core
from plumbline_client.errors import PlumblineClientError, problem_error
from plumbline_client.options import Profile

BUSY = problem_error(Problem(status=503, code="not_ready"))


def waits(core: Core, error: PlumblineClientError) -> list[float]:
    """What one call waits whose attempts all end in the error."""
    waited: list[float] = []
    with pytest.raises(type(error)) as caught:
        wait_for_ever(core.begin({}), error, waited)
    assert caught.value is error
    return waited


def wait_for_ever(call: Call, error: PlumblineClientError, waited: list[float]) -> None:
    while True:
        waited.append(call.wait_after(error))


@pytest.mark.parametrize(
    ("num_failed", "retry_after_ms", "jitter", "expected"),
    [
        pytest.param(1, 0.0, 1.0, 0.1, id="first"),
        pytest.param(2, 0.0, 1.0, 0.2, id="doubles"),
        pytest.param(3, 0.0, 0.5, 0.2, id="jitter is full"),
        pytest.param(3, 0.0, 0.0, 0.0, id="down to nothing"),
        pytest.param(20, 0.0, 1.0, 5.0, id="is bounded"),
        pytest.param(1, 7000.0, 0.0, 7.0, id="asked for"),
        pytest.param(1, 7000.0, 1.0, 7.1, id="asked for, and jitter on top"),
    ],
)
def test_waits_grow_up_to_a_bound(num_failed: int, retry_after_ms: float, jitter: float, expected: float) -> None:
    policy = RetryPolicy(base_delay_s=0.1, max_delay_s=5.0)
    assert policy.delay_s(num_failed, retry_after_ms, lambda: jitter) == pytest.approx(expected)


@pytest.mark.parametrize("error", [BUSY, ConnectError("refused")], ids=["busy", "not reached"])
def test_a_call_is_tried_as_often_as_the_policy_says(error: PlumblineClientError) -> None:
    assert len(waits(Core(Profile(retry=RetryPolicy(max_attempts=3))), error)) == 2


@pytest.mark.parametrize(
    "error",
    [*(problem_error(Problem(status=s)) for s in (400, 401, 403, 404, 413, 422, 500, 504)), TransportError("lost")],
    ids=lambda error: f"{type(error).__name__} {getattr(getattr(error, 'problem', None), 'status', '')}",
)
def test_what_would_fail_again_is_not_retried(error: PlumblineClientError) -> None:
    assert waits(Core(Profile()), error) == []


def test_no_wait_ends_after_the_deadline() -> None:
    late = problem_error(Problem(status=429, retry_after_ms=60_000))
    assert waits(Core(Profile(timeout_ms=59_000)), late) == []
    assert len(waits(Core(Profile(timeout_ms=None)), late)) == 3


def test_when_all_calls_fail_the_budget_ends_retries() -> None:
    core = Core(Profile(retry=RetryPolicy(max_attempts=3, budget=5)))
    assert [len(waits(core, BUSY)) for _ in range(4)] == [2, 2, 1, 0]


def test_successes_pay_retries_back() -> None:
    core = Core(Profile(retry=RetryPolicy(max_attempts=3, budget=2, refill=0.5)))
    waits(core, BUSY)
    assert waits(core, BUSY) == []
    for _ in range(2):
        core.begin({}).succeeded()
    assert len(waits(core, BUSY)) == 1


@pytest.mark.parametrize("timeout_ms", [0.0, -1.0, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout_ms: float) -> None:
    with pytest.raises(UsageError):
        Core(Profile()).begin({"timeout_ms": timeout_ms})


@pytest.mark.parametrize("options", [{"api_key": "hush\n"}, {"headers": {"x-tenant": "hush\r\nx: y"}}], ids=str)
def test_a_secret_that_cannot_be_sent_is_refused_without_being_shown(options: dict) -> None:
    with pytest.raises(UsageError) as caught:
        Profile(**options)
    assert "hush" not in str(caught.value)


def test_a_profile_shows_no_secret() -> None:
    shown = repr(Profile(api_key="hush", headers={"cookie": "hush"}))
    assert "hush" not in shown


def test_a_problem_survives_pickling() -> None:
    error = problem_error(BUSY.problem)
    error.request_id = "mine"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert type(again) is CapacityError
    assert again.problem == BUSY.problem
    assert (again.code, again.request_id, str(again)) == ("not_ready", "mine", str(error))
