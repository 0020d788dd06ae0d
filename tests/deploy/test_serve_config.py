"""The files that `serve deploy` is given: Serve reads them, and the real settings class their arguments."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ray.serve.schema import ServeDeploySchema

from plumbline_serve.app import APP_NAME, GRPC_SERVICERS
from tests.deploy.files import DEPLOY, ROOT, read, settings_of

FILES = sorted(DEPLOY.glob("serve*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def config(request: pytest.FixtureRequest) -> Any:
    return read(request.param)


def test_serve_reads_it_and_the_settings_are_settings(config: Any, tmp_path: Path) -> None:
    read_by_serve = ServeDeploySchema.model_validate(config)
    (application,) = read_by_serve.applications
    settings = settings_of(application.args, tmp_path)
    assert application.name == APP_NAME
    assert (read_by_serve.http_options.port, read_by_serve.grpc_options.port) == (settings.port, settings.grpc_port)
    assert read_by_serve.grpc_options.grpc_servicer_functions == list(GRPC_SERVICERS)


def test_what_it_imports_is_there(config: Any) -> None:
    (application,) = config["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(import_module(module), name))


def test_a_cluster_is_started_with_a_token_and_nothing_that_is_not_explained() -> None:
    given = dict(re.findall(r"^(\w+)=(.+)$", (DEPLOY / "cluster.env").read_text(encoding="utf-8"), re.MULTILINE))
    assert given["RAY_AUTH_MODE"] == "token"
    serving = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in serving for name in given)
