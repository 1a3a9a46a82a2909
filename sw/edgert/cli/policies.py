"""`edgert policies`: which policies there are, and what they may be told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from imprecise.policies import Described

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

MANUAL = """List the policies: the rule of each in a line, its parameters with their defaults, and where it comes from.

A policy ranks the optional stages; mandatory work, deadlines and admission are the engine's, so none can break a guarantee.

\b
EXAMPLES
  edgert policies
  edgert policies ./mine.py          a file of your own: is it a policy?
  edgert simulate made-up --policy ./mine.py:theta=0.5 --policy default

\b
YOUR OWN
  A Python file that sets POLICY to a subclass of imprecise.policies.Policy
  with a method pick(ready, engine) -> one of the jobs in ready, or None.
  It goes where a policy's name goes: --policy ./mine.py. A distribution
  offers one by an entry point of the group `edgert.policies`. What raises,
  chooses what it may not, or does not come back in time is switched off,
  named in the summary, and the run goes on with mandatory work.

\b
EXIT CODES
  0  listed;  2  a file or an entry point is no policy, and the list says why
"""


@app.command(help=MANUAL)
def policies(
    files: list[str] = typer.Argument(None, metavar="[FILE]...", help="Files of your own to list too."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON (keys: docs/json.md) instead of text."),
) -> None:
    """See MANUAL."""
    from imprecise import policies as known

    found = known.describe(tuple(files or ()))
    if as_json:
        rows = [{**row._asdict(), "default": row.name == known.DEFAULT, "error": row.error or None} for row in found]
        typer.echo(json.dumps({"format": 1, "policies": rows}, indent=1))
    else:
        show(found, known.DEFAULT)
    if any(row.error for row in found):
        raise typer.Exit(2)


def show(found: list[Described], default: str) -> None:
    """Print the list as text."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", show_edge=False)
    for title in ("policy", "rule", "parameters", "from"):
        table.add_column(title, overflow="fold")
    for row in found:
        name = f"{row.name} (default)" if row.name == default else row.name
        rule = row.error or row.rule + ("" if row.guarantees else " Guarantees nothing.")
        parameters = " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.parameters.items())
        table.add_row(*map(escape, (name, rule, parameters or "-", row.source)), style="red" if row.error else None)
    Console(highlight=False).print(table)
