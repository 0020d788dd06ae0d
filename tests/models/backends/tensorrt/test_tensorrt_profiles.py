import pytest

from plumbline_models.backends.tensorrt.profiles import SizeChoices, profile_of, show_profile
from plumbline_models.core.errors import ConfigError
from tests.models.backends.tiny_graphs import IMAGE_GRAPH, TEXT_GRAPH


def test_a_profile_is_the_graphs_own_bounds() -> None:
    assert show_profile(profile_of(TEXT_GRAPH, SizeChoices())) == "ids 1x1 4x12 64x77; ends 1 4 64"


def test_choices_move_what_an_engine_is_tuned_to_and_what_it_takes() -> None:
    choices = SizeChoices(typical={"n": 16}, largest={"n": 32, "l": 10, "height": 7})
    assert show_profile(profile_of(TEXT_GRAPH, choices)) == "ids 1x1 16x10 32x10; ends 1 16 32"
    assert show_profile(profile_of(IMAGE_GRAPH, choices)) == "pixels 1x32x32x3 16x32x32x3 32x32x32x3"


@pytest.mark.parametrize("choices", [SizeChoices(typical={"n": 65}), SizeChoices(largest={"n": 0})])
def test_a_choice_outside_of_the_graph_is_refused(choices: SizeChoices) -> None:
    with pytest.raises(ConfigError, match="The size n must lie between 1 and"):
        profile_of(TEXT_GRAPH, choices)


def test_more_than_the_graph_takes_changes_nothing() -> None:
    assert profile_of(TEXT_GRAPH, SizeChoices(largest={"n": 1000})) == profile_of(TEXT_GRAPH, SizeChoices())
