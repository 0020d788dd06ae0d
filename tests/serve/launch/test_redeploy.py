"""When a new configuration runs beside the one before, and not in its place group by group."""

from typing import Any

import pytest

from plumbline_serve.deployments.generation import Generation
from plumbline_serve.launch.redeploy import move_encoders
from plumbline_serve.settings import Settings


def settings_of(groups: dict[str, str], **sections: Any) -> Settings:
    """Groups by the scorers that each names, fused where there is none; what is not said of a scorer is as usual."""
    held = {name: {"scorers": named.split()} for name, named in groups.items()}
    names = [name for group in held.values() for name in group["scorers"]] or ["clipscore"]
    scorers = {name: sections.get(name, {}) for name in names}
    layout = {"layout": "split" if groups else "fused"}
    return Settings.model_validate({"backend": "fake", "scorers": scorers, "replicas": layout, "groups": held})


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        pytest.param({}, {}, False, id="fused as before"),
        pytest.param({"a": "clipscore", "b": "qualiclip"}, {"a": "clipscore", "b": "qualiclip"}, False, id="as before"),
        pytest.param({"a": "clipscore"}, {"a": "clipscore", "b": "qualiclip"}, False, id="one is new"),
        pytest.param({"a": "clipscore qualiclip"}, {"a": "clipscore"}, False, id="one is dropped"),
        pytest.param({}, {"a": "clipscore"}, False, id="fused before"),
        pytest.param({"a": "clipscore"}, {}, True, id="fused then"),
        pytest.param({"a": "clipscore"}, {"b": "clipscore"}, True, id="another name"),
        pytest.param({"a": "clipscore", "b": "qualiclip"}, {"a": "clipscore"}, True, id="a group is given up"),
        pytest.param(
            {"a": "clipscore", "b": "qualiclip"}, {"a": "qualiclip", "b": "clipscore"}, True, id="in each other's place"
        ),
        pytest.param(
            {"a": "clipscore", "b": "fclipscore qualiclip"},
            {"b": "fclipscore qualiclip", "a": "clipscore integrity"},
            True,
            id="an encoder of two scorers",
        ),
    ],
)
def test_what_moves(before: dict[str, str], after: dict[str, str], moves: bool) -> None:
    assert move_encoders(settings_of(before), settings_of(after)) is moves


def test_a_scorer_that_moves_with_other_weights_moves() -> None:
    before = settings_of({"a": "clipscore", "b": "qualiclip"})
    after = settings_of({"a": "qualiclip", "b": "clipscore"}, clipscore={"template": "A photo of "})
    assert move_encoders(before, after)


def test_deployments_of_another_layout_have_names_of_their_own() -> None:
    settings = settings_of({"a": "clipscore"})
    assert [Generation(1, settings, layout).deployment("a") for layout in (0, 1)] == ["a", "a.1"]
