"""How many replicas an encoder group should have: a policy that Ray Serve's controller asks.

Each replica reports the seconds until all would be done that waits for it. Their sum over what one should have before
it is how many there should be; a new replica adds nothing to it until it reports, so that its start does not call for
more. Delays and bounds are Ray Serve's own, and so is starting the first replica where there is none, once a gateway
keeps a call waiting for it.

Ray Serve sends this module's source to its controller, where the package need not be: it imports nothing of it.
"""

from typing import Any

QUEUED_S = "queued_s"
"""Name of the number that replicas report."""


class QueuedSeconds:
    """The policy.

    Args:
        target_queue_s: Seconds of work that a replica should have before it.
    """

    def __init__(self, target_queue_s: float) -> None:
        self._target_queue_s = target_queue_s

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """Replicas that there should be, fractions included, and no state.

        Args:
            context: Ray Serve's `AutoscalingContext`.
        """
        reported = context.aggregated_metrics.get(QUEUED_S, {})
        if not reported:
            return context.target_num_replicas, {}
        return sum(reported.values()) / self._target_queue_s, {}
