"""What the engine is told when a scenario is simulated: admission's limits and the scenario's own, the tighter of each."""

from dataclasses import replace

from edgert.sweep import cells
from imprecise.admission import RunAdmission, answer
from imprecise.question import engine_options, of_scenario
from imprecise.scenario import load

MS = 10**6
FOUND = RunAdmission("certificate", "", blocking_ns={"fpga": 3 * MS, "cpu": 9 * MS}, yields={"cpu": ("fpga",)}, priorities=(1, 0))


def test_of_two_limits_on_optional_stages_the_tighter_holds():
    world = replace(load("made-up"), blocking_ns={"fpga": 2 * MS, "cpu": 10 * MS, "other": MS})
    told = engine_options(world, FOUND)
    assert told["blocking_ns"] == {"fpga": 2 * MS, "cpu": 9 * MS, "other": MS}
    assert told["yields"] == {"cpu": ("fpga",)} and told["priorities"] == (1, 0)


def test_what_is_not_admitted_or_not_asked_leaves_the_scenarios_own_limits():
    world = replace(load("made-up"), blocking_ns={"cpu": MS})
    for found in (None, replace(FOUND, answer="not proven"), replace(FOUND, answer="counter-example")):
        assert engine_options(world, found) == {"blocking_ns": {"cpu": MS}}


def test_a_cell_of_a_sweep_is_told_the_same_as_a_simulation():
    world = replace(load("made-up", load=3.0), blocking_ns={"cpu": 5 * MS})
    assert cells.engine_options(world) == engine_options(world, answer(of_scenario(world)))
    assert cells.engine_options(world, splits=False) == {"blocking_ns": {"cpu": 5 * MS}}
    assert cells.engine_options(world) is not cells.engine_options(world)  # a caller may add to it
