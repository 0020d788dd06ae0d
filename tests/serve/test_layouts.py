"""Which layouts Ray can place on a machine, told before it is asked to."""

import pytest

from plumbline_serve.launch.ray_environment import shortage
from plumbline_serve.settings import ReplicaSettings, Settings

TWO_CPUS = {"CPU": 2.0}
TWO_GPUS = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("layout", "cluster", "named"),
    [
        pytest.param({}, TWO_CPUS, None, id="the default reserves nothing"),
        pytest.param({"encoder_gpus": 1}, TWO_CPUS, "encoder_gpus", id="a GPU where there is none"),
        pytest.param({"encoder_gpus": 0.5, "num_gateways": 4}, TWO_GPUS, None, id="four halves of two GPUs"),
        pytest.param({"encoder_gpus": 0.6, "num_gateways": 3}, TWO_GPUS, "encoder_gpus", id="0.6 fits a GPU once"),
        pytest.param({"gateway_cpus": 1.5, "num_gateways": 2}, TWO_CPUS, "3 CPUs", id="more CPUs than there are"),
        pytest.param(
            {"layout": "split", "num_encoders": 3, "encoder_gpus": 1}, TWO_GPUS, "encoder_gpus", id="encoders count"
        ),
        pytest.param({"layout": "split", "num_encoders": 2, "encoder_gpus": 1}, TWO_GPUS, None, id="encoders fit"),
        pytest.param({"encoder_gpus": 2, "num_gateways": 2}, TWO_GPUS, "2 of 2", id="two GPUs each of two"),
    ],
)
def test_a_layout_that_cannot_be_placed_is_named(
    layout: dict[str, object], cluster: dict[str, float], named: str | None
) -> None:
    found = shortage(Settings(replicas=ReplicaSettings.model_validate(layout)), cluster)
    assert (found is None) if named is None else (named in (found or ""))


@pytest.mark.parametrize(
    ("vqa", "named"),
    [
        pytest.param({"gpus": 1}, None, id="one beside two halves"),
        pytest.param({"gpus": 0.6}, None, id="a part of the other"),
        pytest.param({"gpus": 2}, "groups", id="two, where halves take one"),
        pytest.param({"gpus": 1, "replicas": 2}, "1 each", id="one too many"),
        pytest.param({"gpus": 1, "autoscale": {"min": 0, "max": 9}}, None, id="one at first, more when there are"),
        pytest.param({"cpus": 7}, "groups.*.cpus", id="too many CPUs"),
    ],
)
def test_groups_share_the_machine(vqa: dict[str, object], named: str | None) -> None:
    groups = {
        "clip": {"scorers": ["clipscore", "fclipscore", "qualiclip"], "gpus": 0.5, "replicas": 2},
        "vqa": {"scorers": ["vqascore"], **vqa},
    }
    settings = Settings.model_validate({"replicas": {"layout": "split"}, "groups": groups})
    found = shortage(settings, TWO_GPUS)
    assert (found is None) if named is None else (named in (found or ""))


CLIP = {"scorers": ["clipscore", "fclipscore", "qualiclip"]}


@pytest.mark.parametrize(
    ("chosen", "gpus", "named"),
    [
        pytest.param({}, 2, "replicas.encoder_gpus", id="nobody reserves one of two"),
        pytest.param({"backend": "torch"}, 2, "replicas.encoder_gpus", id="torch would take the first"),
        pytest.param({"backend": "openvino"}, 2, None, id="what computes on CPUs needs none"),
        pytest.param({}, 1, None, id="of one there is no choice"),
        pytest.param({"replicas": {"encoder_gpus": 1}}, 2, None, id="one is reserved"),
        pytest.param(
            {"replicas": {"layout": "split"}, "groups": {"clip": CLIP, "vqa": {"scorers": ["vqascore"], "gpus": 1}}},
            2,
            "groups.*.gpus",
            id="a group that reserves none meets one that does",
        ),
    ],
)
def test_no_replica_is_left_to_find_itself_one_of_several_gpus(
    chosen: dict[str, object], gpus: int, named: str | None
) -> None:
    found = shortage(Settings.model_validate(chosen), {"CPU": 8.0, "GPU": float(gpus)})
    assert (found is None) if named is None else (named in (found or ""))
