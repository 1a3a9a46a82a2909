"""The netlist of the whole accelerator of the bundle `fashion`, after synthesis for the chip, against golden frames; its parts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edgert.cli.hw.rtl import app as rtl
from gateware import netlist

pytestmark = pytest.mark.hw
FRAMES = int(os.environ.get("EDGERT_NETLIST_FRAMES", "20"))


@pytest.fixture(scope="module")
def synthesised(tmp_path_factory):
    """The directory, and the cells of its netlist."""
    directory = tmp_path_factory.mktemp("netlist") / "fashion"
    made = CliRunner().invoke(rtl, ["fashion", "-o", str(directory), "--cycles", "4000"])
    assert made.exit_code == 0, made.output
    return directory, netlist.synthesise(directory)


def test_every_answer_of_the_netlist_is_the_golden_one(synthesised):
    directory, _ = synthesised
    golden = np.load(directory / "golden.npz")
    frames, logits = np.resize(golden["frames"], (FRAMES, 28, 28, 1)), np.resize(golden["logits"], (FRAMES, 10))
    assert len(np.unique(logits, axis=0)) >= min(FRAMES, len(golden["logits"])) // 2
    found = netlist.answers(netlist.netlist_model(directory), frames, 10)
    assert (found == logits).all()


def test_the_flat_netlist_is_of_cells_that_the_router_knows_and_fits(synthesised):
    directory, cells = synthesised
    assert cells["PS7"] == 1
    assert cells["BUFG"] == 1
    assert not {kind for kind in cells if kind.startswith(("$", "DSP", "IBUF", "OBUF")) or kind.startswith("edgert")}
    assert sum(count for kind, count in cells.items() if kind.startswith("LUT")) < 53200
    flat = json.loads((directory / "netlist.json").read_text())
    assert set(flat["modules"]["edgert_top"]["ports"]) == set()
    assert not [name for name in flat["modules"]["edgert_top"]["cells"] if "scopeinfo" in name]


def test_block_ram_models_stand_in_for_yosys_timing_boxes(tmp_path):
    text = netlist.library(tmp_path).read_text()
    for name in netlist.BRAM:
        assert text.count(f"module {name} ") == 1
    assert text.count("edgert_bram #(") >= 2


def test_what_is_not_a_netlist_is_refused(tmp_path):
    with pytest.raises(netlist.NetlistError, match="has no netlist; make it: edgert hw bitstream"):
        netlist.netlist_model(tmp_path)
    (tmp_path / netlist.NETLIST).write_text("module other();\nendmodule\n")
    with pytest.raises(netlist.NetlistError, match="has no module edgert_shell"):
        netlist.netlist_model(tmp_path)
    assert Path(netlist.cell_library()).name == "cells_sim.v"
