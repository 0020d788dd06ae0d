"""What starting does not import: torch where nothing is converted, and nothing of what serves where help is shown."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.programs import program_environment

HEAVY = ("torch", "torchvision", "open_clip", "transformers", "skimage", "onnx", "onnxscript", "scipy", "sqlalchemy")
SERVING = (*HEAVY, "fastapi", "ray", "openvino", "numpy", "grpc", "plumbline_models.scorers")
GALLERY = Path(__file__).parents[2] / "serve" / "plumbline_serve" / "demo" / "gallery"
ASSEMBLY = """
    import asyncio, sys
    from pathlib import Path
    from plumbline_serve.assembly import assembled
    from plumbline_serve.deployments import EncoderReplica, Gateway
    from plumbline_serve.edge import create_app
    from plumbline_serve.messages import EncodedImage, Item, ScoreRequest
    from plumbline_serve.settings import load_settings

    async def main():
        async with assembled(load_settings(None, {})) as assembly:
            item = Item(id="1", image=EncodedImage(Path(sys.argv[1]).read_bytes()), text="a green star")
            reply = await assembly.service.score(ScoreRequest([item], scorers=None))
            assert set(reply.results[0].scores) == {"clipscore", "fclipscore", "vqascore", "qualiclip"}, reply
            assert {entry.backend for entry in await assembly.service.encoders()} == {"openvino"}
    asyncio.run(main())
"""
COMMAND = """
    import sys
    from plumbline_serve.cli.main import main
    sys.argv = ["plumbline", *sys.argv[1:]]
    try:
        main()
    except SystemExit as ended:
        assert ended.code in (0, None), ended.code
"""
REPORT = """
    import json
    print(json.dumps(sorted(name for name in {wanted!r} if sys.modules.get(name) is not None)), file=sys.stderr)
"""


def imported(program: str, *arguments: str, of: tuple[str, ...], cache_dir: Path) -> list[str]:
    """Which of these modules a program has imported at its end."""
    found: list[str] = json.loads(told(program, *arguments, of=of, cache_dir=cache_dir)[-1])
    return found


def told(program: str, *arguments: str, of: tuple[str, ...], cache_dir: Path) -> list[str]:
    """What a program writes to stderr, by lines, and at last which of these modules it has imported."""
    whole = textwrap.dedent(program) + textwrap.dedent(REPORT.format(wanted=of))
    ran = subprocess.run(
        [sys.executable, "-c", whole, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=program_environment(PLUMBLINE_CACHE_DIR=str(cache_dir)),
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.splitlines()


def test_the_embedded_scorers_serve_without_torch(tmp_path: Path) -> None:
    star = str(GALLERY / "green_star.png")
    assert imported(ASSEMBLY, star, of=HEAVY, cache_dir=tmp_path) == []


def test_the_score_command_needs_neither_torch_nor_ray_nor_a_web_framework(tmp_path: Path) -> None:
    star = str(GALLERY / "green_star.png")
    arguments = ("score", star, "--text", "a green star", "--json")
    of_servers = (
        "ray",
        "fastapi",
        "grpc",
        "google.protobuf",
        "plumbline_serve.edge.schemas",
        "plumbline_models.images.nvjpeg",
        "plumbline_serve.fetching",
    )
    unwanted = (*HEAVY, *of_servers, "httpx", "plumbline_client", "pandas", "pyarrow")
    *progress, found = told(COMMAND, *arguments, of=unwanted, cache_dir=tmp_path)
    assert json.loads(found) == []
    compiled = [line for line in progress if "Compiled" in line]
    assert len(compiled) == len(list((tmp_path / "engines").glob("*/")))  # it says of each graph, to no terminal
    assert len(compiled) == len([line for line in progress if "Compiling" in line]) > 1


@pytest.mark.parametrize("command", ["", "serve", "score", "compile", "batch", "compare", "evaluate"])
def test_help_imports_nothing_of_what_serves(command: str, tmp_path: Path) -> None:
    arguments = (*([command] if command else []), "--help")
    assert imported(COMMAND, *arguments, of=(*SERVING, "pyarrow"), cache_dir=tmp_path) == []


def test_models_are_listed_without_a_compiler_and_without_a_server(tmp_path: Path) -> None:
    unwanted = (*HEAVY, "fastapi", "ray", "openvino")
    assert imported(COMMAND, "models", of=unwanted, cache_dir=tmp_path) == []
