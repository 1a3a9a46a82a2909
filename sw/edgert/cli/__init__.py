"""The command `edgert`: a command a file, imported only when it is used."""

from __future__ import annotations

import os
import sys

COMMANDS = {
    "run": "Answer frames live, each before its deadline, and record the run.",
    "admit": "Prove that no frame misses its deadline, or show how one can; margins, and what would have to change.",
    "simulate": "The same scheduler in virtual time: many policies on the same frames.",
    "sweep": "Many simulations: policies, loads, parameters and seeds; resumable, and kept in one file.",
    "policies": "The policies: the rule of each, its parameters, and where it comes from; your own file too.",
    "compare": "Compare runs on the same frames: who missed, how often, how sure, and why.",
    "report": "The summary of one recorded run, as text, JSON or a page.",
    "explain": "Why a frame of a recorded run got its depth, and what would have sufficed for more.",
    "replay": "Feed a recorded run's events to the engine again: the same actions must come out.",
    "model": "Verify a bundle's network on every engine; train the zoo's models again.",
    "hw": "From a bundle to hardware: Verilog, simulation, reports, bitstreams.",
    "deploy": "Put a bundle and edgert on a board or another machine through ssh; tried there before it is used.",
    "remote": "Run there with the flags of `edgert run`, and bring the record back.",
    "board": "The tests that run on the board itself: golden frames, throughput, and what the hardware says of itself.",
    "doctor": "Check this machine: runtime, permissions, clock, accelerators; a fix beside each failing line.",
    "demo": "The demonstration: live runs at two loads, five policies, one page.",
}


def main() -> None:
    """Entry point: run a command; an error is one line on stderr and its exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: its threads only disturb networks this small
    from ..errors import EdgertError
    from .lazy import invoke

    try:
        code = invoke()
    except EdgertError as error:
        print(f"edgert: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
