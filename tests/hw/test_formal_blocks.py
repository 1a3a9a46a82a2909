"""The proofs of the core's stream blocks: order, number and values of beats; some for ever, some to a depth that the table names."""

import pytest

from gateware import formal

pytestmark = pytest.mark.hw
BLOCKS = [proof for proof in formal.TABLE if proof.harness not in ("reader", "writer", "slots", "registers")]


@pytest.mark.parametrize("proof", BLOCKS, ids=lambda proof: proof.name)
def test_a_block_keeps_its_contract(proof):
    result = formal.prove(proof)
    assert result.proved, result.said


def test_the_table_says_what_only_a_bound_covers():
    assert {formal.covers(p) for p in formal.TABLE if p.harness == "maxpool"} == {"all cycles, by induction"}
    assert {formal.covers(p) for p in formal.TABLE if p.harness == "mac"} == {"the first 16 cycles after reset"}
