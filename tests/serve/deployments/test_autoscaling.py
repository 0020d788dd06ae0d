"""How many replicas a group should have, by the seconds of work that each has before it."""

import time

import pytest
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.config import AutoscalingContext

from plumbline_serve.deployments.autoscaling import QUEUED_S, QueuedSeconds


def context(queued_s: list[float], *, num_replicas: int) -> AutoscalingContext:
    deployment = DeploymentID("vqa", "plumbline")
    replicas = [ReplicaID(str(index), deployment) for index in range(num_replicas)]
    reported = dict(zip(replicas, queued_s, strict=False))
    return AutoscalingContext(
        deployment_id=deployment,
        deployment_name="vqa",
        app_name="plumbline",
        current_num_replicas=num_replicas,
        target_num_replicas=num_replicas,
        running_replicas=replicas,
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics={QUEUED_S: reported} if reported else {},
        raw_metrics={},
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=8,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=time.time(),
        config=None,
    )


@pytest.mark.parametrize(
    ("queued_s", "num_replicas", "wanted"),
    [
        pytest.param([0.6], 1, 3.0, id="three times what one should have"),
        pytest.param([0.2, 0.2], 2, 2.0, id="as much as each should have"),
        pytest.param([0.05, 0.05, 0.1], 3, 1.0, id="so little that one suffices"),
        pytest.param([0.0, 0.0], 2, 0.0, id="nothing"),
        pytest.param([0.6], 3, 3.0, id="new replicas that have not reported call for no more"),
        pytest.param([], 2, 2, id="nothing is known"),
    ],
)
def test_the_seconds_that_wait_say_how_many_replicas_there_should_be(
    queued_s: list[float], num_replicas: int, wanted: float
) -> None:
    decided, state = QueuedSeconds(target_queue_s=0.2)(context(queued_s, num_replicas=num_replicas))
    assert decided == pytest.approx(wanted)
    assert state == {}
