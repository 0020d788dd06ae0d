"""The application as Ray Serve is given it: a deployment for each group, as the settings have it."""

from typing import Any

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, when it is imported

GROUPS: dict[str, Any] = {
    "clip": {"scorers": ["clipscore"], "replicas": 2, "cpus": 2, "max_ongoing": 7},
    "vqa": {
        "scorers": ["vqascore"],
        "gpus": 0.5,
        "placement": {"labels": {"zone": "a"}, "resources": {"h100": 0.5}, "max_per_node": 3},
        "autoscale": {"min": 0, "max": 4, "target_queue_s": 0.5, "up_after_s": 1, "down_after_s": 60},
    },
}


def settings_with(groups: dict[str, Any]) -> Settings:
    scorers: dict[str, Any] = {"clipscore": {}, "vqascore": {}}
    return Settings.model_validate({"scorers": scorers, "replicas": {"layout": "split"}, "groups": groups})


def deployments(settings: Settings) -> dict[str, Any]:
    from ray.serve._private.build_app import build_app  # noqa: PLC0415 - under the filter above

    from plumbline_serve.app import build  # noqa: PLC0415 - likewise

    return {each.name: each for each in build_app(build(settings), name="plumbline").deployments}


def test_each_group_is_a_deployment_with_its_replicas_and_its_place():
    found = deployments(settings_with(GROUPS))
    assert set(found) == {"Gateway", "clip", "vqa"}
    clip, vqa = found["clip"], found["vqa"]
    assert (clip.num_replicas, clip.max_ongoing_requests) == (2, 7)
    assert clip.ray_actor_options == {"num_cpus": 2, "num_gpus": 0}
    labelled = {"num_cpus": 1, "num_gpus": 0.5, "resources": {"h100": 0.5}, "label_selector": {"zone": "a"}}
    assert vqa.ray_actor_options == labelled
    assert vqa._replica_config.max_replicas_per_node == 3
    scale = vqa._deployment_config.autoscaling_config
    assert (scale.min_replicas, scale.initial_replicas, scale.max_replicas) == (0, 1, 4)
    assert (scale.upscale_delay_s, scale.downscale_delay_s) == (1, 60)
    assert scale.policy.get_policy()(**scale.policy.policy_kwargs)._target_queue_s == 0.5


def test_new_replicas_start_before_old_ones_stop():
    found = deployments(settings_with(GROUPS))
    assert {each._deployment_config.max_surge_percent for each in found.values()} == {100}


def test_a_configuration_of_scorers_that_there_are_not_is_refused_before_anything_starts():
    from plumbline_serve.app import build  # noqa: PLC0415 - under the filter above

    with pytest.raises(ConfigError, match="no scorer called nonsense"):
        build(Settings(scorers={"nonsense": {}}))
    with pytest.raises(ConfigError, match="tempate"):
        build(Settings(scorers={"clipscore": {"tempate": ""}}))
