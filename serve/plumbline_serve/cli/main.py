"""The commands and their arguments; what they do is in the files beside this one, imported when they run.

So help, and an argument that is wrong, cost nothing of what serves: no scorers, no web framework, no compiler.
"""

import contextlib
import io
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from plumbline_models.core.errors import InvalidFieldError, PlumblineError
from plumbline_models.core.precision import PrecisionChoice
from plumbline_serve.cli.guards_command import guards
from plumbline_serve.cli.keys_command import keys
from plumbline_serve.cli.offline_commands import batch, calibrate, compare, evaluate
from plumbline_serve.logs import LogFormat, LogLevel

FAILED, USAGE = 1, 2
ENGINES = "plumbline_models.backends.store"
"""The logger of what is compiled."""
cli = typer.Typer(
    name="plumbline",
    help="Scores generated images against their prompts: alignment, misaligned words, quality.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.add_typer(keys, name="keys")
cli.add_typer(guards, name="guards")
cli.command()(batch)
cli.command()(calibrate)
cli.command()(compare)
cli.command()(evaluate)
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML, or preset:NAME; default: $PLUMBLINE_CONFIG.")
]


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _show_version(*, is_wanted: bool) -> None:
    if is_wanted:
        print(f"plumbline {version('plumbline-serve')}")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda value: _show_version(is_wanted=value), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Scores generated images against their prompts: alignment, misaligned words, quality."""


@cli.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="REST port (8000).")] = None,
    grpc_port: Annotated[int | None, typer.Option(min=1, max=65535, help="gRPC port (9000).")] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="From which level on lines are logged (info).")] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Of the log on stderr; default: text on a terminal, else json.")
    ] = None,
) -> None:
    """Run the service in the foreground; SIGTERM drains it, SIGHUP reads the configuration anew."""
    from plumbline_serve.cli import serve_command
    from plumbline_serve.settings.source import ConfigSource

    overrides = {"host": host, "port": port, "grpc_port": grpc_port, "log_level": log_level, "log_format": log_format}
    raise typer.Exit(serve_command.serve(ConfigSource(config, overrides)))


@cli.command()
def score(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    text: Annotated[str | None, typer.Option("--text", help="What the images should show.")] = None,
    scorers: Annotated[str | None, typer.Option(help="Comma-separated; default: every loaded scorer.")] = None,
    questions: Annotated[
        Path | None, typer.Option(help="File of questions about each image; see docs/scorers.md.")
    ] = None,
    reference: Annotated[list[str] | None, typer.Option(help="Caption to compare the text with; repeatable.")] = None,
    phrase: Annotated[list[str] | None, typer.Option(help="Part of the text; repeatable.")] = None,
    reference_image: Annotated[Path | None, typer.Option(help="Image to compare each with.")] = None,
    combine: Annotated[
        str | None, typer.Option(help="Scores as one, as REST's combine: JSON, or a file of it.")
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="The images are frames of one video, in order.")] = False,
    pool: Annotated[
        str | None, typer.Option(help="How the values of frames become one: mean, min, clip4clip; default: mean.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the REST reply.")] = False,
    config: ConfigOption = None,
    server: Annotated[str | None, typer.Option(help="Score through a running service at this URL.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="For the server; other users see arguments.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authority of the server's certificate.")] = None,
) -> None:
    """Score image files, in this process or through a server."""
    from plumbline_serve.cli import score_command

    compared = score_command.Compared.parse(reference or (), phrase or (), reference_image)
    inputs = score_command.FilesToScore.parse(images, text, scorers=scorers, questions=questions, compared=compared)
    inputs = inputs.combining(combine)
    if frames:
        inputs = inputs.as_video(pool)
    elif pool is not None:
        raise InvalidFieldError("--pool goes with --frames.")
    if server is None:
        from plumbline_serve.settings import load_settings

        logging.getLogger(ENGINES).setLevel(logging.INFO)  # a first run compiles, which takes its time
        reply = score_command.in_process(inputs, load_settings(config))
    else:
        from plumbline_serve.cli.score_through_server import Server, through_server

        reply = through_server(inputs, Server(server, api_key, ca))
    raise typer.Exit(score_command.show(reply, as_json=as_json))


@cli.command("compile")
def compile_engines(
    config: ConfigOption = None,
    backend: Annotated[str | None, typer.Option(help="tensorrt, tensorrt-rtx or openvino; default: as served.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to ship; default: the engine cache.")] = None,
    precision: Annotated[PrecisionChoice | None, typer.Option(help="Default: as served.")] = None,
    strip_weights: Annotated[
        bool | None,
        typer.Option("--strip-weights/--keep-weights", help="TensorRT: weights beside engines; default: as served."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of images that int8 or fp8 is calibrated on.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Build the engines of every configured scorer ahead of time."""
    from plumbline_serve.cli import compile_command
    from plumbline_serve.settings import load_settings

    settings = load_settings(config, {"backend": backend, "precision": precision})
    given = {"calibration_dir": calibration, "strip_weights": strip_weights}
    engines = settings.engines.model_copy(update={name: value for name, value in given.items() if value is not None})
    report = compile_command.build(settings.model_copy(update={"engines": engines}), out)
    raise typer.Exit(compile_command.show(report, as_json=as_json))


@cli.command()
def probe(
    file: Annotated[Path, typer.Argument(help="CSV or JSONL with image and text: true captions.")],
    scorers: Annotated[str | None, typer.Option(help="Comma-separated; default: all of an image and a text.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show whether scorers hear what a caption says, or a bag of its words."""
    from plumbline_serve.cli import probe_command
    from plumbline_serve.settings import load_settings

    found = probe_command.in_process(probe_command.read_pairs(file), load_settings(config), scorers)
    raise typer.Exit(probe_command.show(found, as_json=as_json))


@cli.command()
def models(
    config: ConfigOption = None,
    presets: Annotated[
        bool, typer.Option("--presets", help="List the configurations that --config preset:NAME names.")
    ] = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """List what the configuration would load, where from, its licence, and whether it is there."""
    from plumbline_serve.cli.weights import show_encoders, show_presets
    from plumbline_serve.settings import load_settings

    raise typer.Exit(show_presets() if presets else show_encoders(load_settings(config), as_json=as_json))


@cli.command()
def pull(
    config: ConfigOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Refuse the network: check that all is here already.")
    ] = False,
) -> None:
    """Fetch the weights that the configuration names, and check them, so that a start needs no network."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # the hub's client reads it when it is imported
    from plumbline_serve.cli.weights import show_encoders
    from plumbline_serve.settings import load_settings

    raise typer.Exit(show_encoders(load_settings(config), "fetch"))


@cli.command()
def doctor(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Check devices, backends, weights and ports, and say what to do."""
    from plumbline_serve.cli import doctor as doctor_command
    from plumbline_serve.settings import load_settings

    raise typer.Exit(doctor_command.examine(load_settings(config), as_json=as_json))


def main() -> None:
    """Entry point of the command; what nobody can read, or nowhere can be written, is said in a sentence."""
    if sys.stderr is None:  # it was closed; what is printed to None goes to stdout
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python has it for stderr
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        cli()
    except PlumblineError as error:
        from plumbline_serve.cli.weights import describe

        print(f"plumbline: {describe(error)}", file=sys.stderr)
        sys.exit(USAGE)
    except OSError as error:
        what = error.filename or "The output cannot be written"
        print(f"plumbline: {what}: {error.strerror or error}.", file=sys.stderr)
        _drop_output()
        sys.exit(FAILED)


def _drop_output() -> None:
    """Let Python's own last flush not fail once more."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
