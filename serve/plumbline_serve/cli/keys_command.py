"""`plumbline keys`: makes, lists and revokes the API keys of a file; running services read it again by themselves.

What a command needs is imported when it runs; see `main`.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast

import typer

from plumbline_models.core.errors import ConfigError

keys = typer.Typer(
    help="Make, list and revoke the API keys of a file.", no_args_is_help=True, pretty_exceptions_enable=False
)
FileOption = Annotated[Path, typer.Option("--file", help="YAML file of hashed keys, as auth.keys_file names it.")]


@keys.command()
def new(
    name: Annotated[str, typer.Option(help="Of whoever calls by it: lower-case letters, digits, dots, dashes.")],
    file: FileOption,
    scopes: Annotated[str, typer.Option(help="Comma-separated: score, decide, admin, embed.")] = "score",
    weight: Annotated[float, typer.Option(help="Its share beside other keys while both wait.")] = 1.0,
    rate: Annotated[str | None, typer.Option(help="Items per second, minute, hour or day: 100/minute.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Requests under way at one gateway.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days after which it expires; default: never.")] = None,
) -> None:
    """Make a key, print it once, and put its hash into the file."""
    from pydantic import ValidationError

    from plumbline_serve.edge.access.keys_file import KeyEntry, Scope, changing, digest_of, new_key

    key = new_key()
    try:
        entry = KeyEntry(
            name=name,
            hash=f"sha256:{digest_of(key).hex()}",
            scopes=tuple(cast("Scope", each.strip()) for each in scopes.split(",")),
            weight=weight,
            rate=rate,
            concurrency=concurrency,
            expires=None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days),
        )
    except ValidationError as error:
        option = str(error.errors()[0]["loc"][0])
        raise ConfigError(f"--{option} is wrong: {error.errors()[0]['msg']}.") from None
    with changing(file) as entries:
        if any(each.name == name for each in entries):
            raise ConfigError(f"There is a key {name} already; revoke it first, or choose another name.")
        entries.append(entry)
        print(key, flush=True)  # before it is written: a key that nobody saw is in no file


@keys.command("list")
def list_keys(file: FileOption) -> None:
    """Show what the file says of each key; the keys themselves are nowhere."""
    from rich.table import Table

    from plumbline_serve.cli.results import literally, show_table
    from plumbline_serve.edge.access.keys_file import read_keys

    table = Table("name", "scopes", "weight", "rate", "concurrency", "expires")
    for entry in read_keys(file):
        expires = "never" if entry.expires is None else f"{entry.expires:%Y-%m-%d %H:%M} UTC"
        cells = (", ".join(entry.scopes), f"{entry.weight:g}", entry.rate or "any", str(entry.concurrency or "any"))
        table.add_row(*map(literally, (entry.name, *cells, "expired" if entry.has_expired else expires)))
    show_table(table)


@keys.command()
def revoke(name: Annotated[str, typer.Option(help="Of the key.")], file: FileOption) -> None:
    """Take a key out of the file: within seconds no gateway lets it in."""
    from plumbline_serve.edge.access.keys_file import changing

    with changing(file) as entries:
        if all(each.name != name for each in entries):
            raise ConfigError(f"There is no key {name} in {file}.")
        entries[:] = [each for each in entries if each.name != name]
