"""What Ray starts its node with is changed by name."""

import pytest

from plumbline_serve.deployments.lean_node import with_options

COMMAND = ["/ray/raylet", "--node_id=7", "--agent=python agent.py --port=1", "--head"]


def test_the_value_of_an_option_is_another_and_the_rest_stays() -> None:
    assert with_options(COMMAND, {"--agent": "true"}) == ["/ray/raylet", "--node_id=7", "--agent=true", "--head"]


def test_an_option_that_is_not_there_is_told_instead_of_passed_over() -> None:
    with pytest.raises(RuntimeError, match="without --workers"):
        with_options(COMMAND, {"--agent": "true", "--workers": "3"})
