"""A `PLUMBLINE_…` variable that is none of ours is refused, not passed over."""

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings import Settings, load_settings
from plumbline_serve.settings.environment_names import check_names


def test_a_file_of_keys_with_one_underscore_too_few_does_not_open_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_AUTH_KEYS_FILE", "/run/keys")
    with pytest.raises(ConfigError, match="did you mean PLUMBLINE_AUTH__KEYS_FILE"):
        load_settings()


def test_all_that_are_misspelt_are_named() -> None:
    with pytest.raises(ConfigError) as refusal:
        check_names({"PLUMBLINE_PORTS": "1", "PLUMBLINE_LIMITS__MAX_ITEM": "2", "PLUMBLINE_VIBES": "3"}, Settings)
    for word in ("PLUMBLINE_PORT?", "PLUMBLINE_LIMITS__MAX_ITEMS?", "no variable PLUMBLINE_VIBES."):
        assert word in refusal.value.detail


@pytest.mark.parametrize(
    "name",
    [
        "PLUMBLINE_CONFIG",
        "PLUMBLINE_API_KEY",
        "PLUMBLINE_PORT",
        "plumbline_port",
        "PLUMBLINE_LIMITS",
        "PLUMBLINE_LIMITS__MAX_ITEMS",
        "PLUMBLINE_SCORERS",
        "PLUMBLINE_SCORERS__CLIPSCORE__ARCH",
        "PLUMBLINE_ENGINES__TYPICAL__BATCH",
        "PLUMBLINE_SERVICE_HOST",
        "PLUMBLINE_SERVICE_PORT_REST",
        "PLUMBLINE_PORT_8000_TCP_ADDR",
        "PLUMBLINE_REDIS_PORT_6379_TCP",
        "OTHER_AUTH_KEYS_FILE",
    ],
)
def test_what_is_ours_or_of_kubernetes_is_taken(name: str) -> None:
    check_names({name: "1"}, Settings)


def test_what_kubernetes_says_of_another_service_is_taken() -> None:
    check_names({"PLUMBLINE_REDIS_PORT": "tcp://10.0.0.7:6379"}, Settings)


def test_a_service_link_in_place_of_the_port_is_told_from_a_wrong_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_PORT", "tcp://10.0.0.7:8000")
    with pytest.raises(ConfigError, match="enableServiceLinks"):
        load_settings()
