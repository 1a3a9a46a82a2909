"""A group of commands whose modules are imported when a command is used, not before."""

from __future__ import annotations

import difflib
import importlib
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import UsageError
from . import COMMANDS


class LazyGroup(TyperGroup):
    """Loads `app` of the module NAME of `package` for command NAME; lists commands without loading any."""

    commands_of: ClassVar[dict[str, str]] = COMMANDS
    package: ClassVar[str] = str(__package__)
    path: ClassVar[str] = "edgert"

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of `commands_of`."""
        return list(self.commands_of)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command. Raises UsageError for an unknown name, offering the nearest."""
        if cmd_name not in self.commands_of:
            near = difflib.get_close_matches(cmd_name, self.commands_of, n=1)
            hint = f"did you mean `{self.path} {near[0]}`?" if near else f"see `{self.path} --help`"
            raise UsageError(f"unknown command {cmd_name!r}", hint)
        command = typer.main.get_command(importlib.import_module(f"{self.package}.{cmd_name}").app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands from their one-line texts."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.commands_of.items()))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Plain help: rich's would import every command."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)


app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgert {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def edgert(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", callback=_print_version, is_eager=True),
) -> None:
    """Answer every camera frame before its deadline.

    A ternary network on an FPGA (or, bit for bit the same, on the CPU) gives the mandatory answer, always in time;
    optional TFLite stages refine it as far as the deadline allows. Start with `edgert doctor`, then `edgert run --help`.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def invoke() -> int:
    """Run the command line and return its exit code. Raises EdgertError; a misused flag is a UsageError."""
    wrong_flag: Any = typer.BadParameter.__base__  # click's UsageError, wherever this typer keeps it
    try:
        result = typer.main.get_command(app)(prog_name="edgert", standalone_mode=False)
    except wrong_flag as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "edgert"
        raise UsageError(error.format_message().rstrip("."), f"see `{command} --help`") from None
    except typer.Abort:
        return 130
    return result if isinstance(result, int) else 0
