"""The workflow of GitHub Actions that is shown is one, and its commands are ours."""

import shlex
import subprocess
import sys

import typer
import yaml
from typer.core import TyperGroup

from plumbline_serve.cli.main import cli
from tests.deploy.files import DEPLOY

WORKFLOW = DEPLOY / "github" / "compare.yaml"


def test_it_is_a_workflow() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_its_commands_have_their_options() -> None:
    group = typer.main.get_command(cli)
    assert isinstance(group, TyperGroup)
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    lines = [shlex.split(step["run"], comments=True) for step in job["steps"] if "run" in step]
    found = {words[1]: words[2:] for words in lines if words[0] == "plumbline"}
    assert set(found) == {"batch", "compare"}
    for name, words in found.items():
        known = {option for each in group.commands[name].params for option in each.opts}
        assert {word for word in words if word.startswith("-")} <= known
