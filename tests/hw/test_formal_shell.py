"""The shell's proofs, and that each of them sees a fault put into what it proves."""

from dataclasses import replace

import pytest

from gateware import formal

pytestmark = pytest.mark.hw
SHELL = [proof for proof in formal.TABLE if proof.harness in ("reader", "writer", "slots", "registers")]

FAULTS = {
    "reader": [
        ("room[LOG:4] != 0", "1'b1"),                                           # asks with no room left
        ("5'd16 - {1'b0, address[3:0]}", "5'd16"),                              # across 4 kB
        ("pop = take && word_valid && (half || last)", "pop = take && word_valid && half"),
        ("assign pop = take && word_valid", "assign pop = word_valid"),         # loses words while the core waits
        ("part & LAST_MASK", "part"),
        ("if (issue) arvalid <= 1'b1;\n            else if (arready) arvalid <= 1'b0;", "arvalid <= issue;"),
        ("wire take = !tvalid || tready;", "wire take = 1'b1;"),
        ("half ? word[63:32] : word[31:0]", "half ? word[31:0] : word[63:32]"),
    ],
    "writer": [
        ("5'd16 - {1'b0, address[3:0]}", "5'd16"),
        ("wlast <= unsent == 5'd1", "wlast <= unsent == 5'd2"),
        ("held >= {{(LOG-4){1'b0}}, burst}", "1'b1"),                           # starts before the words are there
        ("(!wvalid || wready)", "1'b1"),
        ("if (awready) awvalid <= 1'b0;", "awvalid <= 1'b0;"),
        ("half ? {tdata, low}", "half ? {low, tdata}"),
        ("pop = load || (state == DROP && unsent != 0)", "pop = load"),         # drops without taking
        ("half <= !half && !last;", "half <= !half;"),
    ],
    "slots": [
        ("source >= window_low, ", "1'b1, "),
        ("target_end <= {1'b0, window_high}", "1'b1"),
        ("source[2:0] == 0 && target[2:0] == 0", "source[2:0] == 0"),
        ("wire next = !waiting[0];", "wire next = waiting[1];"),
        ("wire [1:0] fresh = start & ~busy;", "wire [1:0] fresh = start;"),
        ("refused0 <= here1 && refused1_now;", "refused0 <= 1'b0;"),
        ("clear = resetting && hold == 15 && idle", "clear = resetting && hold == 15"),
        ("(sound ? 2'b00 : ends) | wrongs", "(sound ? 2'b00 : ends)"),
    ],
    "registers": [
        ("rlast <= from_left == 0", "rlast <= from_left == 1"),
        ("bid <= awid", "bid <= bid"),
        ("(at & ~mask) | (ahead & mask)", "ahead"),                             # WRAP as INCR
        ("if (!held[0]) source0", "source0"),
        ("(window_high & ~mask) | set", "set"),
        ("|| (irq_enable[1] && errors != 0)", ""),
        ("| errors_now", "& errors_now"),
        ("if (bready) bvalid <= 1'b0;", "bvalid <= 1'b0;"),
    ],
}


@pytest.mark.parametrize("proof", SHELL, ids=lambda proof: proof.name)
def test_the_shell_keeps_its_contract_for_ever(proof):
    assert proof.induction
    result = formal.prove(proof)
    assert result.proved, result.said


@pytest.mark.parametrize(("harness", "number"), [(name, number) for name, faults in FAULTS.items() for number in range(len(faults))])
def test_a_fault_is_seen(harness, number, tmp_path):
    right, wrong = FAULTS[harness][number]
    proof = [p for p in SHELL if p.harness == harness][-1]  # the reader: with an odd number of beats, the last one not whole
    sources = []
    changed = 0
    for source in proof.sources:
        text = source.read_text()
        if source.stem == f"edgert_{harness}":
            changed = text.count(right)
            text = text.replace(right, wrong)
        (tmp_path / source.name).write_text(text)
        sources.append(tmp_path / source.name)
    assert changed == 1, f"{right!r} is there {changed} times"
    assert not formal.prove(replace(proof, sources=tuple(sources))).proved


def test_a_counter_example_names_the_assertion_and_leaves_a_waveform(tmp_path):
    proof = next(p for p in SHELL if p.harness == "registers")
    source = tmp_path / "edgert_registers.v"
    source.write_text(proof.sources[0].read_text().replace("bid <= awid", "bid <= bid"))
    result = formal.prove(replace(proof, sources=(source,)), keep=tmp_path)
    assert not result.proved
    assert "Assert failed in registers_check: registers.sv:" in result.said
    assert list(tmp_path.glob("*.vcd"))
