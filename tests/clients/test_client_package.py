import re
import subprocess
import sys
from pathlib import Path

import pytest

import plumbline_client
from plumbline_client import AsyncGrpcClient, GrpcClient, PlumblineClientError, Problem, errors

README = (Path(__file__).parents[2] / "clients" / "README.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_importing_the_client_imports_nothing_heavy() -> None:
    program = "import sys, plumbline_client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "plumbline_wire" in loaded.split()
    assert {"numpy", "torch", "ray", "PIL", "plumbline_serve", "plumbline_models"}.isdisjoint(loaded.split())


def test_rest_needs_nothing_of_grpc() -> None:
    program = """
import sys
sys.modules["grpc"] = sys.modules["google"] = None
import plumbline_client
with plumbline_client.Client("http://127.0.0.1:1", tls=None) as client:
    assert client.ready() is False
assert not hasattr(plumbline_client, "nothing")
try:
    plumbline_client.GrpcClient
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "GrpcClient needs the extra grpc: pip install 'plumbline-client[grpc]'" in said


def test_the_example_of_the_readme_runs(rest_server, tmp_path: Path, monkeypatch, capsys) -> None:
    word = {"text": "fox", "start": 6, "end": 9, "attribution": 0.25, "misaligned": True}
    scores = {"clipscore": {"value": 0.5}, "fclipscore": {"value": -0.5, "words": [word]}}
    rest_server.answer({"results": [{"id": "0", "status": "ok", "scores": scores}]})
    (tmp_path / "fox.png").write_bytes(b"fox")
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLE.replace("http://localhost:8000", rest_server.url), {})  # noqa: S102 - it is the README's
    assert capsys.readouterr().out.split() == ["0", "0.5", "fox", "0.25", "not", "shown"]
    assert list(rest_server.arrived[0].parts.values()) == [b"fox"]


@pytest.mark.parametrize("kind", [GrpcClient, AsyncGrpcClient])
def test_every_method_is_in_the_readme(kind: type) -> None:
    for method in dir(kind):
        assert method.startswith("_") or method == "close" or f"`{method}(" in README


def test_every_error_is_public_and_in_the_readme_and_in_the_tree() -> None:
    found = [PlumblineClientError]
    for kind in found:
        found.extend(kind.__subclasses__())
    for kind in found:
        assert kind.__name__ in plumbline_client.__all__
        assert re.search(rf"^.*{kind.__name__}\b", README, flags=re.MULTILINE)
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("name", plumbline_client.__all__)
def test_everything_public_exists_and_is_documented(name: str) -> None:
    assert getattr(plumbline_client, name).__doc__


def test_an_error_without_a_sentence_still_says_something() -> None:
    assert str(errors.problem_error(Problem(status=418))) == "The service answered 418."
