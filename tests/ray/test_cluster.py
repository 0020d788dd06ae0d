"""The same application on a cluster of two nodes, its encoders in groups."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plumbline_serve.machine.ports import free_port
from plumbline_serve.machine.ray_token import own_token
from tests.programs import program_environment
from tests.services import PATIENT

pytestmark = pytest.mark.ray
DRIVER = Path(__file__).with_name("two_nodes.py")


ENVIRONMENT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",  # replicas call each other over gRPC, whose messages have 4 MiB unless told
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
}


@pytest.fixture(scope="module")
def found(engine_cache, png_of, large_png, tmp_path_factory) -> dict[str, Any]:
    """What happened on one cluster: it takes long to start."""
    image = {"b64": base64.b64encode(png_of(1)).decode()}
    large = {"b64": base64.b64encode(large_png).decode()}
    scorers = ["clipscore", "qualiclip"]
    bodies = [
        {"items": [{"image": image, "text": "a red circle"}], "scorers": scorers},
        {"items": [{"image": large}, *({"image": image, "text": f"circle {i}"} for i in range(40))], **PATIENT},
        {"items": [{"image": {"b64": base64.b64encode(png_of(2)).decode()}, "text": "circle"}], "scorers": scorers},
    ]
    ran = subprocess.run(
        [sys.executable, str(DRIVER), engine_cache, str(free_port()), str(free_port())],
        input=json.dumps(bodies),
        capture_output=True,
        text=True,
        env=program_environment(**ENVIRONMENT, **own_token(tmp_path_factory.mktemp("token"))),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    printed: dict[str, Any] = json.loads(next(line for line in ran.stdout.splitlines() if line.startswith("{")))
    return printed


def scores_of(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer["status"] == 200
    (result,) = answer["body"]["results"]
    assert result["status"] == "ok", result
    scores: dict[str, Any] = result["scores"]
    return scores


def test_groups_run_where_they_are_placed_and_answer_together(found):
    assert found["nodes"] == {"clip": ["first"], "quality": ["second"]}
    assert all("value" in score for score in scores_of(found["small"]).values())
    assert found["small"]["ids"] == [found["small"]["body"]["request_id"]]
    assert "plumbline_batch_size_count" in found["metrics"]


def test_what_is_larger_than_a_message_is_answered(found):
    assert found["large"]["status"] == 200
    results = found["large"]["body"]["results"]
    assert {result["status"] for result in results} == {"ok"}
    assert "value" in results[0]["scores"]["qualiclip"]


def test_a_group_that_is_killed_under_load_takes_its_own_scorer_along_alone(found):
    killed = found["killed"]
    scores = scores_of(killed["away"])
    assert "value" in scores["clipscore"]
    assert scores["qualiclip"]["error"]["status"] == 503
    assert killed["readyz"] == 503
    assert killed["models"] == 4
    assert set(killed["failed"]) <= {"qualiclip encoders_away"}


def test_a_group_that_nobody_asks_for_sleeps_until_it_is_called(found):
    asleep = found["asleep"]
    assert asleep["readyz"] == 200
    assert (asleep["first"]["status"], asleep["first"]["body"]["code"]) == (503, "encoders_away")
    assert "value" in scores_of(asleep["then"])["integrity"]


def test_a_group_grows_and_shrinks_with_its_load(found):
    assert found["scaled"] == [1, 3, 1]


def test_a_configuration_is_changed_without_a_failed_request(found):
    changed = found["changed"]
    assert changed["failed"] == {}
    before, after = scores_of(changed["before"]), scores_of(changed["after"])
    assert before["clipscore"]["value"] != after["clipscore"]["value"]
    assert before["qualiclip"]["value"] == pytest.approx(after["qualiclip"]["value"], abs=5e-3)


def test_a_configuration_that_is_none_is_refused_and_the_one_before_goes_on(found):
    refused = found["refused"]
    assert (refused["said"], refused["template"]) == (True, "A photo depicts ")
    assert scores_of(refused["still"]) == scores_of(found["changed"]["after"])
