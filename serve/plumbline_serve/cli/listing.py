"""`plumbline models`: what the configuration would load, where from, under which licence, and whether it is there."""

from rich.table import Table
from rich.text import Text

from plumbline_serve.cli.results import literally, paragraphs, show_table
from plumbline_serve.cli.weights import find_weights, told
from plumbline_serve.settings import Settings

OK, SOME_MISSING = 0, 1


def show_encoders(settings: Settings) -> int:
    """Print a line for each encoder, and for each section that none can be made of; no weights are loaded or fetched.

    Returns:
        0 if all weights are on this machine and usable, 1 if some would have to be fetched, or are not.
    """
    table = Table("encoder", "for", "weights", "licence", "here")
    is_complete = True
    for found in find_weights(settings, "here"):
        source, licence = (found.origin.source, found.origin.licence) if found.origin else ("", "")
        is_here = found.origin is not None and found.origin.is_present and found.fault is None
        here = Text("yes", "green") if is_here else Text("no: fetched at the first start", "yellow")
        if found.fault is not None:
            here = Text.assemble(("no:", "red"), " ", paragraphs(told(found.fault, settings)))
        names = (found.what, ", ".join(found.scorers), source, licence)
        table.add_row(*map(literally, names), here)
        is_complete &= is_here
    show_table(table)
    return OK if is_complete else SOME_MISSING
