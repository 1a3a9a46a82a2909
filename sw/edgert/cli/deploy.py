"""`edgert deploy`: a new version on another machine, tried there, then used."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..board.ssh import Target

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

MANUAL = """Put a bundle, edgert and what it needs on another machine, try it there, and use it from then on.

The other machine needs Python 3.10 or newer, NumPy and an ssh server, nothing else: a Raspberry Pi, a PYNQ board, a PC. Nothing is
installed on it and its Python packages stay as they are. Everything goes into one folder, ~/edgert, a version beside the other:

\b
  1. look: processor, Python, NumPy, room on the disk
  2. get pure-Python wheels (and a TFLite runtime for that processor) with
     this computer's pip, once; they are kept in ~/.cache/edgert
  3. send what is lacking there; a connection that is cut is no harm: type
     the command again, it goes on where it was
  4. there: compare every sha256, load everything, answer the golden frames
  5. switch to it in one step; where it does not start, switch back

\b
EXAMPLES
  edgert deploy fashion pi@raspberrypi.local
  edgert deploy ./my-bundle xilinx@pynq -o ProxyJump=lab --accelerator pynq
  edgert deploy --rollback pi@raspberrypi.local
  edgert remote run pi@raspberrypi.local --load 1.5 --duration 20s \\
    --record runs/pi.db

SSH. The system's ssh is used, with your keys, agent and ~/.ssh/config. The machine's host key must be known (log in once by hand and
compare its fingerprint). A password is asked for by ssh itself, if you sit at a terminal; none is ever stored. On a PYNQ board commands
run as root (`sudo -n bash -lc`), which the board must permit without a password.

\b
EXIT CODES
  0  the version is in use
  2  something on the command line cannot be right
  3  it is not in use, and what was in use before still is; the reason and
     the next command are printed
"""


def target(host: str, port: int, identity: Path | None, options: list[str], folder: str) -> Target:
    """The machine that the flags name. Raises UsageError."""
    from ..board.ssh import Target
    from ..errors import UsageError

    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: expected 1 to 65535", "leave it out for ssh's own choice")
    if not host or host.startswith("-") or host.split() != [host]:
        raise UsageError(f"{host!r} is no machine", "name it like pi@raspberrypi.local")
    if any("=" not in option for option in options):
        raise UsageError("-o takes an option of ssh as NAME=VALUE", "write it like -o ProxyJump=lab")
    return Target(host, port, identity, tuple(options), folder)


PORT = typer.Option(0, "--port", "-p", metavar="N", help="Port of its ssh server. Default: as ssh is configured.")
IDENTITY = typer.Option(None, "--identity", "-i", metavar="FILE", help="Private key. Default: as ssh is configured.")
OPTIONS = typer.Option([], "-o", metavar="NAME=VALUE", help="An option of ssh, as in ssh_config. Host keys stay strict whatever it says.")
FOLDER = typer.Option("~/edgert", "--folder", metavar="DIR", help="The folder there that holds all versions.")
SUDO = typer.Option(None, "--sudo/--no-sudo", help="Run as root there. Default: on a PYNQ board, whose FPGA only root may touch.")


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


@app.command(help=MANUAL)
def deploy(
    arguments: list[str] = typer.Argument(..., metavar="[BUNDLE] USER@HOST", help="A bundle of the zoo by name, or the directory of one; "
                                          "and the machine. With --rollback, only the machine."),
    port: int = PORT,
    identity: Path | None = IDENTITY,
    options: list[str] = OPTIONS,
    folder: str = FOLDER,
    sudo: bool | None = SUDO,
    accelerator: str = typer.Option("auto", "--accelerator", help="Engine that must give the golden answers there."),
    tflite: bool = typer.Option(True, "--tflite/--no-tflite", help="Send a TFLite runtime, where there is one for that machine."),
    wheels: Path | None = typer.Option(None, "--wheels", metavar="DIR", help="Take the wheels from this folder; pip is not asked."),
    rollback: bool = typer.Option(False, "--rollback", help="Go back to the version before this one."),
    as_json: bool = typer.Option(False, "--json", help="Print what was done as JSON."),
) -> None:
    """See MANUAL."""
    from ..board import deploy as deploying
    from ..errors import UsageError

    if len(arguments) != (1 if rollback else 2):
        wanted = "USER@HOST" if rollback else "BUNDLE USER@HOST"
        raise UsageError(f"expected {wanted}, found {' '.join(arguments)}", "see edgert deploy --help")
    machine = target(arguments[-1], port, identity, options, folder)
    if rollback:
        done = deploying.rollback(machine, say, sudo)
    else:
        done = deploying.deploy(arguments[0], machine, say, sudo, tflite, wheels, accelerator)
    if as_json:
        print(json.dumps(asdict(done), indent=1))
        return
    for check in done.checks:
        print(f"{check['level']:8} {check['name']:20} {check['found']}")
        if check["fix"]:
            print(f"{'':8} {'':20} fix: {check['fix']}")
    before = f", before: {done.before}" if done.before and done.before != done.version else ""
    print(f"in use on {done.host}: {done.version}{before}")
    if not rollback:
        print(f"edgert remote run {machine.flags()} --duration 10s --record runs/there.db    runs it")
