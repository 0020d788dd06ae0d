"""How our rules change what Ray wrote for HAProxy, and what they refuse."""

import json
import subprocess

import pytest

from plumbline_serve.edge.received import OWN_CONNECTION
from plumbline_serve.haproxy import plan as haproxy
from plumbline_serve.haproxy.rewriting import STREAMS, UNSPLICED, RefusedError, rewrite, rewrite_on_cluster
from plumbline_wire import SCORING_SERVICE
from tests.serve.haproxy.fronts import Gateway, rays_config, some_settings


@pytest.mark.parametrize("has_proxy", [False, True])
def test_only_callers_are_listened_to_from_outside_and_rays_proxy_is_left_out(has_proxy: bool, tmp_path) -> None:
    settings = some_settings().model_copy(update={"host": "0.0.0.0"})
    file = rays_config(tmp_path, settings, Gateway(), has_proxy=has_proxy)
    assert ("rays-proxy" in file.read_text(encoding="utf-8")) == has_proxy
    plan = json.loads((tmp_path / "haproxy.json").read_text(encoding="utf-8"))
    text = rewrite(file.read_text(encoding="utf-8"), plan)
    bound = {line.split()[1] for line in text.splitlines() if line.lstrip().startswith("bind ")}
    pages = {f"127.0.0.1:{port}" for port in plan["pages"]}
    assert bound == {f"0.0.0.0:{settings.port}", f"0.0.0.0:{settings.grpc_port}", *pages}
    assert " backup" not in text


UNKNOWN = [
    pytest.param(("bind ", "bind 0.0.0.0:1\n    bind "), id="another address"),
    pytest.param(
        ("frontend http_frontend", "listen more\n    bind :7777\nfrontend http_frontend"), id="another section"
    ),
    pytest.param(("backend http\n", "backend renamed\n"), id="a backend that is not there"),
    pytest.param(("defaults\n", "defaults\n    mode http\ndefaults second\n"), id="defaults twice"),
    pytest.param(("listen stats", "backend more\n    server s 127.0.0.1:1\nlisten stats"), id="unreached servers"),
]


@pytest.mark.parametrize("change", UNKNOWN)
def test_haproxy_is_not_started_on_what_the_rules_do_not_know(change: tuple[str, str], tmp_path) -> None:
    file = rays_config(tmp_path, some_settings(), Gateway())
    text = file.read_text(encoding="utf-8")
    assert change[0] in text
    file.write_text(text.replace(*change), encoding="utf-8")
    ran = subprocess.run([tmp_path / "haproxy", "-c", "-f", file], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "is not started" in ran.stderr
    plan = json.loads((tmp_path / "haproxy.json").read_text(encoding="utf-8"))
    with pytest.raises(RefusedError):
        rewrite(file.read_text(encoding="utf-8"), plan)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_an_ipv6_host_is_written_as_haproxy_reads_it(host: str, tmp_path) -> None:
    settings = some_settings().model_copy(update={"host": host})
    bound = [front.bind.split()[0] for front in haproxy.make_plan(tmp_path, settings, []).fronts]
    assert bound == [f"[{host}]:{settings.port}", f"[{host}]:{settings.grpc_port}"]


def test_fewer_connections_are_let_in_where_there_are_few_descriptors(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
    plan = haproxy.make_plan(tmp_path, some_settings(), [])
    assert 2 * int(plan.globals[0].split()[1]) < 1024


def test_a_clusters_streams_go_to_rays_proxy_only_where_all_others_do(tmp_path) -> None:
    file = rays_config(tmp_path, some_settings(), Gateway(), has_proxy=True)
    before = file.read_text(encoding="utf-8")
    after = rewrite_on_cluster(before)
    kept = [line.strip() for line in before.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    now = {line.strip() for line in after.splitlines()}
    assert set(kept) - now == {UNSPLICED.removeprefix("no ")}
    assert UNSPLICED in now
    (apart,) = [each for each in after.split("\n\n") if each.startswith("backend grpc-streams")]
    servers = {line.split()[1]: line.split() for line in apart.splitlines() if line.lstrip().startswith("server ")}
    assert {name: "backup" in words for name, words in servers.items()} == {"gateway": False, "rays-proxy": True}


def test_what_gateways_are_told_of_streams_is_what_they_look_for() -> None:
    assert STREAMS["condition"] == f"path /{SCORING_SERVICE}/ScoreStream"
    assert f"http-request set-header {OWN_CONNECTION} 1" in STREAMS["backend"]
