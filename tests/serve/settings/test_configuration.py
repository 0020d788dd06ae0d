"""Settings come from a file and the environment, validated, with clear words where they are wrong."""

from ipaddress import ip_network

import pytest

from plumbline_models.core.errors import ConfigError
from plumbline_serve.settings import load_settings


def write(tmp_path, text: str):
    path = tmp_path / "plumbline.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_no_file_gives_the_defaults_of_the_contract():
    settings = load_settings()
    assert (settings.backend, settings.precision, settings.scorers) == ("auto", "auto", None)
    assert (settings.limits.max_items, settings.limits.max_pixels, settings.limits.max_text_chars) == (
        256,
        50_000_000,
        4096,
    )
    assert settings.limits.max_image_bytes == 20 * 2**20
    assert settings.limits.max_request_bytes == 64 * 2**20


def test_the_contract_s_example_is_read(tmp_path):
    path = write(
        tmp_path,
        """
        backend: openvino
        scorers:
          clipscore: {arch: ViT-L-14-336-quickgelu, pretrained: openai}
        images: {exif_orientation: ignore, alpha: drop}
        limits: {max_items: 10, max_image_bytes: 1MiB, max_pixels: 2.5MP, max_request_bytes: 8MiB}
        auth: {keys_file: null}
        """,
    )
    settings = load_settings(path)
    assert settings.limits.max_pixels == 2_500_000
    assert settings.limits.max_image_bytes == 2**20
    assert settings.images.alpha == "drop"
    assert settings.scorers == {"clipscore": {"arch": "ViT-L-14-336-quickgelu", "pretrained": "openai"}}


def test_images_by_url_come_from_hosts_that_are_named(tmp_path):
    hosts = '["Images.Example.com", "*.cdn.example.com", "2001:DB8:0::1", "*"]'
    path = write(
        tmp_path, f"urls: {{enabled: true, allow_hosts: {hosts}, allow_networks: [10.1.0.0/16], ca_file: a.pem}}"
    )
    urls = load_settings(path).urls
    assert urls.allow_hosts == ("images.example.com", "*.cdn.example.com", "2001:db8::1", "*")
    assert urls.allow_networks == (ip_network("10.1.0.0/16"),)
    assert urls.ca_file == tmp_path / "a.pem"
    assert not load_settings().urls.enabled


@pytest.mark.parametrize(
    ("section", "why"),
    [
        pytest.param("{enabled: true}", "enabled needs allow_hosts", id="no hosts"),
        pytest.param('{allow_hosts: ["https://a.example"]}', "not a host", id="a URL"),
        pytest.param('{allow_hosts: ["a.example:443"]}', "not a host", id="a port"),
        pytest.param('{allow_hosts: ["a.*.example"]}', "not a host", id="an asterisk within"),
        pytest.param('{allow_hosts: ["*a.example"]}', "not a host", id="an asterisk before letters"),
        pytest.param('{allow_hosts: ["a.example."]}', "not a host", id="a dot behind"),
        pytest.param('{allow_hosts: ["0x7f.1"]}', "not a host", id="an odd address"),
        pytest.param('{allow_hosts: ["bücher.example"]}', "not a host in ASCII", id="not in ASCII"),
        pytest.param("{allow_networks: [10.1.0.1/16]}", "allow_networks", id="a network with bits of a host"),
        pytest.param("{allow_ports: [0]}", "allow_ports", id="port 0"),
    ],
)
def test_hosts_and_networks_of_images_are_checked(tmp_path, section: str, why: str):
    with pytest.raises(ConfigError, match=why):
        load_settings(write(tmp_path, f"urls: {section}"))


def test_the_environment_wins_over_the_file_and_arguments_over_both(tmp_path, monkeypatch):
    path = write(tmp_path, "limits: {max_items: 10, max_text_chars: 7}\nport: 8001\n")
    monkeypatch.setenv("PLUMBLINE_LIMITS__MAX_ITEMS", "20")
    monkeypatch.setenv("PLUMBLINE_PORT", "8002")
    settings = load_settings(path, {"port": 8003, "host": None})
    assert (settings.limits.max_items, settings.limits.max_text_chars, settings.port) == (20, 7, 8003)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("port: 2024-13-45", "month must be in 1..12", id="a date that is none"),
        pytest.param("scorers: [clipscore", "in line 1, column", id="an open list"),
        pytest.param("[" * 5000, "recursion", id="too deep"),
        pytest.param("_env_file: /etc/passwd", "no such field", id="an argument of pydantic-settings"),
        pytest.param("cache_dir: ~nobody-of-this-name/x", "home folder", id="no such home"),
    ],
)
def test_what_yaml_makes_of_a_file_is_said_in_a_sentence(tmp_path, text, why):
    with pytest.raises(ConfigError, match=why) as caught:
        load_settings(write(tmp_path, text))
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("bakend: torch", " Did you mean backend?", id="at the top"),
        pytest.param("limits: {max_itms: 3}", " Did you mean limits.max_items?", id="in a section"),
        pytest.param("auth: {limits_ulr: a, key_file: b}", "mean auth.limits_url and auth.keys_file?", id="two"),
        pytest.param("quux: 1", "Extra inputs are not permitted.", id="nothing like it"),
        pytest.param("groups: {a: {scorrs: [b]}}", "Extra inputs", id="in what callers name"),
    ],
)
def test_a_field_that_there_is_not_is_said_with_the_one_that_may_be_meant(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text))
    assert said in caught.value.detail


def test_a_folder_in_place_of_the_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        load_settings(tmp_path)


def test_a_variable_that_is_no_json_is_said(monkeypatch):
    monkeypatch.setenv("PLUMBLINE_LIMITS", "{")
    with pytest.raises(ConfigError, match='"limits"'):
        load_settings()


def test_the_environment_can_name_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_CONFIG", str(write(tmp_path, "port: 8123")))
    assert load_settings().port == 8123


@pytest.mark.parametrize(
    ("text", "word"),
    [
        pytest.param("bakend: torch", "bakend", id="unknown field"),
        pytest.param("limits: {max_items: 0}", "limits.max_items", id="out of bounds"),
        pytest.param("edge: {reward_divisors: {pickscore: 26}}", "names pickscore", id="divisor of what is not loaded"),
        pytest.param("edge: {reward_divisors: {clipscore: 0}}", "reward_divisors", id="divisor of 0"),
        pytest.param("limits: {max_pixels: huge}", "max_pixels", id="not a number of pixels"),
        pytest.param("- a\n- b", "mapping", id="not a mapping"),
        pytest.param("a: [", "cannot be read", id="not YAML"),
        pytest.param("port: 1\nport: 2", "'port' stands there twice, in line 2", id="a field twice"),
        pytest.param("scorers:\n  vqascore: {}\n  vqascore: {}", "'vqascore' stands there twice", id="a scorer twice"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, word):
    with pytest.raises(ConfigError) as refusal:
        load_settings(write(tmp_path, text))
    assert word in refusal.value.detail


def test_what_is_merged_into_a_mapping_may_be_set_anew(tmp_path):
    found = load_settings(write(tmp_path, "limits: {<<: {max_items: 8, max_frames: 5}, max_items: 3}")).limits
    assert (found.max_items, found.max_frames) == (3, 5)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        load_settings(tmp_path / "absent.yaml")
