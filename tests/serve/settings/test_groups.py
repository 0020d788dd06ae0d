"""Encoder groups as configured: who is in which, what each is given, and what is refused."""

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings import load_settings

SPLIT = "replicas: {layout: split}\n"
TWO = "scorers: {clipscore: {}, vqascore: {}}\n"


def load(tmp_path, text: str):
    path = tmp_path / "plumbline.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def test_groups_are_read(tmp_path):
    autoscale = "{min: 0, max: 8, target_queue_s: 0.2}"
    placement = "{labels: {ray.io/accelerator-type: H100}, resources: {vqa: 1}, max_per_node: 1}"
    vqa = f"{{scorers: [vqascore], gpus: 0.5, autoscale: {autoscale}, placement: {placement}}}"
    settings = load(tmp_path, f"{SPLIT}{TWO}groups: {{clip: {{scorers: [clipscore], replicas: 2}}, vqa: {vqa}}}")
    clip, vqa_group = settings.encoder_groups.values()
    assert list(settings.encoder_groups) == ["clip", "vqa"]
    assert (clip.scorers, clip.first_replicas, clip.num_threads) == (("clipscore",), 2, 1)
    assert vqa_group.autoscale is not None
    assert (vqa_group.autoscale.min, vqa_group.autoscale.max, vqa_group.first_replicas) == (0, 8, 1)
    assert vqa_group.placement.labels == {"ray.io/accelerator-type": "H100"}


def test_without_groups_one_holds_every_scorer(tmp_path):
    replicas = "{layout: split, num_encoders: 3, encoder_cpus: 2, encoder_gpus: 0.25}"
    (group,) = load(tmp_path, f"{TWO}replicas: {replicas}").encoder_groups.items()
    assert group[0] == "encoders"
    assert (group[1].scorers, group[1].replicas) == (("clipscore", "vqascore"), 3)
    assert (group[1].cpus, group[1].gpus) == (2, 0.25)


def test_default_scorers_are_those_with_embedded_weights(tmp_path):
    (group,) = load(tmp_path, SPLIT).encoder_groups.values()
    assert set(group.scorers) == {"clipscore", "fclipscore", "vqascore", "qualiclip"}


def test_the_fused_layout_has_no_groups(tmp_path):
    assert load(tmp_path, TWO).encoder_groups == {}


def test_a_variable_sets_a_field_of_a_group(tmp_path, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_GROUPS__ALL__REPLICAS", "3")
    settings = load(tmp_path, f"{SPLIT}{TWO}groups: {{all: {{scorers: [clipscore, vqascore], cpus: 2}}}}")
    assert (settings.groups["all"].replicas, settings.groups["all"].cpus) == (3, 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(f"{TWO}groups: {{a: {{scorers: [clipscore, vqascore]}}}}", "layout: split", id="fused"),
        pytest.param(f"{SPLIT}{TWO}groups: {{a: {{scorers: [clipscore]}}}}", "no group names vqascore", id="left out"),
        pytest.param(
            f"{SPLIT}{TWO}groups: {{a: {{scorers: [clipscore, vqascore]}}, b: {{scorers: [vqascore]}}}}",
            "vqascore is named by a and by b",
            id="named twice",
        ),
        pytest.param(
            f"{SPLIT}{TWO}groups: {{a: {{scorers: [clipscore, vqascore, hpsv2]}}}}", "not among", id="not configured"
        ),
        pytest.param(f"{SPLIT}{TWO}groups: {{a: {{scorers: []}}}}", "groups.a.scorers", id="of no scorers"),
        pytest.param(f"{SPLIT}{TWO}groups: {{A: {{scorers: [clipscore]}}}}", "lower-case", id="a capital"),
        pytest.param(
            f"{TWO}replicas: {{layout: split, num_encoders: 2}}\ngroups: {{a: {{scorers: [clipscore, vqascore]}}}}",
            "what replicas.num_encoders would",
            id="two numbers of replicas",
        ),
        pytest.param(
            f"{SPLIT}{TWO}groups: {{a: {{scorers: [clipscore, vqascore], replicas: 2, autoscale: {{max: 2}}}}}}",
            "exclude each other",
            id="replicas and autoscale",
        ),
        pytest.param(
            f"{SPLIT}{TWO}groups: {{a: {{scorers: [clipscore, vqascore], autoscale: {{min: 3, max: 2}}}}}}",
            "max is less than min",
            id="no room between min and max",
        ),
        pytest.param(
            f"{SPLIT}{TWO}groups: {{a: {{scorers: [clipscore, vqascore], gpus: 1.5}}}}", "whole ones", id="1.5 GPUs"
        ),
        pytest.param("replicas: {encoder_gpus: 1.5}", "whole ones", id="1.5 GPUs of a gateway"),
    ],
)
def test_groups_that_do_not_fit_are_refused(tmp_path, text: str, why: str):
    with pytest.raises(ConfigError, match=why):
        load(tmp_path, text)
