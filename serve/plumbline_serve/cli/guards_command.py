"""`plumbline guards`: builds what guards hold images against; running services see it within seconds.

What a command needs is imported when it runs; see `main`.
"""

from pathlib import Path
from typing import Annotated

import typer

guards = typer.Typer(
    help="Build what guards hold images against.", no_args_is_help=True, pretty_exceptions_enable=False
)


@guards.callback()
def _group() -> None:
    """Keep `build` a command of its own."""


@guards.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Folder of at least 198 real images, nobody's choice.")],
    texts: Annotated[Path, typer.Option(help="File of captions as callers send them, one a line, at least 8.")],
    others: Annotated[
        Path | None, typer.Option(help="File of texts of other kinds, one a line: those far from all captions count.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML settings; default: $PLUMBLINE_CONFIG.")] = None,
) -> None:
    """Build the guard of the first configured scorer with encoders of images and texts, and keep it in the store."""
    from plumbline_serve.cli import guard_files
    from plumbline_serve.settings import load_settings

    policy, num_images, num_texts = guard_files.build(load_settings(config), folder, texts, others)
    print(f"guard {policy} of {num_images} images and {num_texts} texts")
