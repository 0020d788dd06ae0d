"""`plumbline models`: what the configuration would load, where from, under which licence, and whether it is there."""

from rich.console import Console
from rich.table import Table

from plumbline_serve.assembly import encoders_of, make_scorers
from plumbline_serve.settings import Settings

OK, SOME_MISSING = 0, 1


def show_encoders(settings: Settings) -> int:
    """Print a line for each encoder; nothing is loaded or fetched.

    Returns:
        0 if all weights are on this machine, 1 if some would have to be fetched.
    """
    scorers = make_scorers(settings)
    table = Table("encoder", "for", "weights", "licence", "here")
    is_complete = True
    for encoder in encoders_of(scorers.values()):
        origin = encoder.origin()
        users = [s.info.name for s in scorers.values() if encoder.key in {e.key for e in encoders_of([s])}]
        here = "[green]yes[/]" if origin.is_present else "[yellow]no: fetched at the first start[/]"
        table.add_row(encoder.key, ", ".join(users), origin.source, origin.licence, here)
        is_complete &= origin.is_present
    Console().print(table)
    return OK if is_complete else SOME_MISSING
