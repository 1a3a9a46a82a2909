"""`edgert admit`: one answer for scenarios and runs, with margins, and with changes that are admitted when they are typed."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

import small_bundle
from edgert.cli import admit as command
from edgert.cli import main, simulate
from edgert.cli import run as run_command
from edgert.errors import AdmissionRefused, UsageError
from edgert.executive import admit as executive
from edgert.results.record import Recorder
from imprecise import repair
from imprecise.admission import admit_run, answer
from imprecise.model import Stage, Stream
from imprecise.question import of_scenario
from imprecise.scenario import load

MS = 10**6


def run(*args: object, code: int = 0) -> str:
    """The output of the command, which ends with this exit code; its errors are raised."""
    result = CliRunner().invoke(command.app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, (result.exit_code, result.output)
    return result.stdout


def figures(*args: object, code: int = 0) -> dict:
    """Its JSON."""
    return json.loads(run(*args, "--json", code=code))


STAGE = '[[stream.stage]]\nname = "{}"\nresource = "{}"\ntime = "{}"\n{}'
MANDATORY = "mandatory = true\n"


def scenario(path, deadline="20ms", scan="12ms", period="20ms", scan_on="cpu", front="cpu", guard="1ms", second="4ms"):
    """Two streams that meet on the CPU; one may cross the FPGA."""
    text = f'guard = "{guard}"\n[resources]\ncpu = 1\nfpga = 1\n'
    text += f'[[stream]]\nname = "front"\nperiod = "{period}"\ndeadline = "{deadline}"\njitter = "1ms"\n'
    for name, resource, time in (("prepare", front, "2ms"), ("first", "fpga", "1ms"))[: 2 if front != "fpga" else 1]:
        text += STAGE.format(name, resource, time, MANDATORY)
    text += STAGE.format("second", "cpu", second, "")
    text += '[[stream]]\nname = "rear"\nperiod = "100ms"\n' + STAGE.format("scan", scan_on, scan, MANDATORY)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle.make(tmp_path_factory.mktemp("bundles") / "toy", stages=2)


# Scenarios ------------------------------------------------------------------------------------------------------------


def test_a_certificate_of_a_scenario_is_that_of_the_library(tmp_path):
    path = scenario(tmp_path / "s.toml", scan_on="fpga", front="fpga", deadline="20ms")
    found, world = figures(path), load(path)
    direct = admit_run(world.streams, world.resources, world.guard_ns, 0, False, False)
    assert (found["answer"], found["text"]) == ("certificate", direct.text)
    fpga = next(r for r in found["resources"] if r["name"] == "fpga")
    certificate = direct.certificates["fpga"]
    assert (fpga["t_ns"], fpga["demand_ns"], fpga["block_ns"]) == (certificate.t_ns, certificate.demand_ns, certificate.block_ns)
    assert fpga["slack_ns"] == certificate.slack_ns and fpga["load"] == pytest.approx(2 / 20 + 12 / 100)
    margins = repair.margins(of_scenario(world))
    stages = {s["name"]: s for s in found["stages"]}
    assert {name: s["margin_ns"] for name, s in stages.items() if s["mandatory"]} == margins.cost_ns
    assert {s["names"][0]: s["deadline_margin_ns"] for s in found["streams"]} == margins.deadline_ns
    assert stages["prepare"]["wcet_ns"] == 2 * MS and stages["prepare"]["local_deadline_ns"] == 19 * MS
    assert len(found["assumptions"]) == len(direct.assumptions) and not found["changes"]


def test_the_text_says_all_of_it(tmp_path):
    text = " ".join(run(scenario(tmp_path / "s.toml", deadline="40ms")).split())
    for part in ("Certificate: no frame misses its deadline while A1 to A10 hold.", "tightest at", "longest optional stage", "may grow by",
                 "may shrink by", "Margins, each alone", "A10 no mandatory stage fails", "assumed: the longest that its time gives"):
        assert part in text, part


def test_a_resource_is_shown_without_the_optional_stage_that_it_allows_for(tmp_path):
    found = figures(scenario(tmp_path / "s.toml", deadline="40ms"))
    cpu = next(r for r in found["resources"] if r["name"] == "cpu")
    assert cpu["capacity_ns"] - cpu["demand_ns"] - cpu["block_ns"] == cpu["slack_ns"] > 4 * MS
    assert cpu["longest_optional_ns"] >= cpu["slack_ns"]  # it would be in the way instead of `block_ns`, not beside it


def test_simulate_and_admit_give_the_same_answer():
    for name, more in (("made-up", ()), ("made-up", ("--load", "20")), ("ten-tasks", ())):
        result = CliRunner().invoke(simulate.app, [name, *more, "--frames", "20", "--json", "--policy", "mandatory-only"],
                                    catch_exceptions=False)
        simulated = json.loads(result.stdout)["admission"]
        found = figures(name, *more, code=0 if simulated["answer"] == "certificate" else 1)
        assert {key: found[key] for key in simulated} == simulated


def test_a_counter_example_is_written_and_replayed_to_its_miss(tmp_path):
    path = scenario(tmp_path / "s.toml", scan_on="fpga", front="fpga", deadline="12ms")
    found = figures(path, "--replay", code=1)
    assert found["answer"] == "counter-example" and found["counter_example"]["resource"] == "fpga"
    assert [a["stream"] for a in found["counter_example"]["arrivals"]] == ["rear", "front"]
    late, = found["replay"]
    assert late["stream"] == "front" and late["ready_ns"] is None and late["due_ns"] == late["release_ns"] + 11 * MS
    text = " ".join(run(path, "--replay", code=1).split())
    assert "The pattern on 'fpga'" in text and "Replayed in the simulator: frame 0 of 'front'" in text
    assert figures(path, code=1)["replay"] is None


def test_what_is_not_proven_ends_with_3(tmp_path):
    path = scenario(tmp_path / "s.toml", deadline="15ms")
    found = figures(path, code=3)
    assert found["answer"] == "not proven" and found["margins"] is None and found["counter_example"] is None
    assert [c["kind"] for c in found["changes"]] == ["deadline", "units", "cut"]
    assert "Not proven" in run(path, code=3)


def test_each_change_is_admitted_when_it_is_made_and_the_next_smaller_is_not(tmp_path):
    changes = {c["kind"]: c["value"] for c in figures(scenario(tmp_path / "s.toml", deadline="15ms"), code=3)["changes"]}
    assert figures(scenario(tmp_path / "s.toml", deadline=f"{changes['deadline']}ns"))["answer"] == "certificate"
    figures(scenario(tmp_path / "s.toml", deadline=f"{changes['deadline'] - 1}ns"), code=3)
    text = scenario(tmp_path / "s.toml", deadline="15ms").read_text()
    for units, code in ((changes["units"], 0), (changes["units"] - 1, 3)):
        (tmp_path / "units.toml").write_text(text.replace("cpu = 1", f"cpu = {units}"))
        run(tmp_path / "units.toml", code=code)
    for piece, code in ((changes["cut"], 0), (changes["cut"] + 1, 3)):
        cut = STAGE.format("scan.1", "cpu", f"{piece}ns", MANDATORY) + STAGE.format("scan.2", "cpu", f"{12 * MS - piece}ns", MANDATORY)
        (tmp_path / "cut.toml").write_text(text.replace(STAGE.format("scan", "cpu", "12ms", MANDATORY), cut))
        run(tmp_path / "cut.toml", code=code)


def test_optional_stages_that_never_start_are_named_with_what_would_let_them(tmp_path):
    found = figures(scenario(tmp_path / "s.toml", deadline="40ms", second="90ms"))
    change, = found["changes"]
    assert found["notes"] and change["kind"] == "piece" and change["subject"] == "second"
    assert not figures(scenario(tmp_path / "s.toml", deadline="40ms", second=f"{change['value']}ns"))["notes"]
    assert figures(scenario(tmp_path / "s.toml", deadline="40ms", second=f"{change['value'] + 1}ns"))["notes"]


def test_what_if(tmp_path):
    path = scenario(tmp_path / "s.toml", deadline="40ms")
    plain = figures(path)
    more = {s["name"]: s["margin_ns"] for s in plain["stages"] if s["mandatory"]}
    run(path, "--wcet", f"scan={12 * MS + more['scan']}ns")
    run(path, "--wcet", f"scan={12 * MS + more['scan'] + 1}ns", code=3)
    run(path, "--wakeup", f"{plain['margins']['wakeup_ns']}ns")
    run(path, "--wakeup", f"{plain['margins']['wakeup_ns'] + 1}ns", code=3)
    changed = figures(path, "--wcet", "scan=13ms", "--overhead", "100us", "--wakeup", "200us")
    stage = next(s for s in changed["stages"] if s["name"] == "scan")
    assert (stage["wcet_ns"], stage["from"], changed["overhead_ns"]) == (13 * MS, "assumed: --wcet", 100_000)
    assert any(a["kind"] == "overhead" and a["limit_ns"] == 100_000 for a in changed["assumptions"])


def test_a_policy_that_does_not_split_needs_all_of_it_admitted():
    found = figures("made-up", "--policy", "monolithic", code=3)
    assert not found["splits"] and all(s["mandatory"] for s in found["stages"])
    run("ten-tasks", "--policy", "monolithic")


def test_listed_releases_have_the_least_distance_as_their_period(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[resources]\ncpu = 1\n[[stream]]\nname = "s"\nreleases = ["0ms", "7ms", "20ms"]\ndeadline = "5ms"\n'
                    + STAGE.format("m", "cpu", "3ms", MANDATORY))
    assert figures(path)["streams"][0]["period_ns"] == 7 * MS


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_is_asked_from_its_bundle_as_edgert_run_would(bundle):
    found = figures(bundle, "--wcet", "bundle", "--rate", "50", "--deadline", "40ms")
    first = found["stages"][0]
    assert (found["kind"], found["answer"]) == ("run", "certificate") and "timing.json" in first["from"]
    assert first["wcet_ns"] == 3 * 400_000 and found["guard_ns"] == 5 * MS and found["wakeup_ns"] == MS
    assert found["overhead_ns"] == command.ASSUMED_OVERHEAD_NS and found["streams"][0]["period_ns"] == 20 * MS
    assert all(s["from"] != "assumed" for s in found["stages"])
    assert figures(bundle, "--wcet", "bundle", "--accelerator", "emulated")["stages"][0]["from"].startswith("emulated: 1000 cycles")


def test_a_run_is_measured_as_edgert_run_does(bundle):
    pytest.importorskip("ai_edge_litert")
    found = figures(bundle, "--source", f"dataset:{bundle}", "--rate", "10", "--deadline", "5s", "--duration", "1s", "--record",
                    "never-made.db", "--best-effort", "--seed", "3", "--accelerator", "numpy")
    assert found["answer"] == "certificate" and "measured" in found["stages"][0]["from"]
    assert found["overhead_ns"] > 0 and "decisions measured" in found["overhead_from"]
    assert any(a["kind"] == "overhead" and "decisions measured" in a["text"] for a in found["assumptions"])


@pytest.mark.parametrize("typed", [["--rate", "50", "--deadline", "3ms", "--guard", "2700us"],
                                   ["--deadline", "3ms", "--source", "a=dataset:toy", "--source", "b=dataset:toy", "--rate", "b=15"]])
def test_the_flags_of_a_change_are_admitted_when_they_are_typed(bundle, typed):
    text = " ".join(run(bundle, "--wcet", "bundle", *typed, code=1).split())
    deadline = re.search(r"--deadline ([0-9.]+)ms", text)[1]
    rest = [part for i in range(0, len(typed), 2) if typed[i] != "--deadline" for part in typed[i:i + 2]]
    run(bundle, "--wcet", "bundle", *rest, "--deadline", f"{deadline}ms")
    run(bundle, "--wcet", "bundle", *rest, "--deadline", f"{float(deadline) - 1e-6:.6f}ms", code=1)


def test_rates_that_would_be_admitted_are_typed_by_stream(bundle):
    typed = ["--deadline", "40ms", "--source", "a=dataset:toy", "--source", "b=dataset:toy", "--rate", "a=800", "--rate", "b=100"]
    text = " ".join(run(bundle, "--wcet", "bundle", *typed, code=1).split())
    rates = re.findall(r"--rate (\w=[0-9.]+)", text)
    assert [rate[0] for rate in rates] == ["a", "b"] and float(rates[0][2:]) == pytest.approx(8 * float(rates[1][2:]), rel=1e-3)
    run(bundle, "--wcet", "bundle", *typed[:6], "--rate", rates[0], "--rate", rates[1])
    faster = [part for rate in rates for part in ("--rate", f"{rate[:2]}{1.01 * float(rate[2:])}")]
    run(bundle, "--wcet", "bundle", *typed[:6], *faster, code=1)


def test_the_guard_of_a_run_follows_from_what_is_assumed_unless_it_is_given(bundle):
    what_if = [bundle, "--wcet", "bundle", "--wcet", "mandatory=4ms", "--wakeup", "2ms", "--overhead", "1ms", "--deadline", "33ms"]
    assert figures(*what_if)["guard_ns"] == 7 * MS
    assert figures(*what_if, "--guard", "8ms")["guard_ns"] == 8 * MS
    assert figures(*what_if, "--guard", "6ms", code=3)["guard_ns"] == 6 * MS


def test_every_option_of_a_run_is_an_option_here():
    def options(app):
        return {name for param in typer.main.get_command(app).params for name in param.opts if name.startswith("--")}

    assert options(run_command.app) <= options(command.app)


def test_a_shared_core_is_asked_about(bundle):
    found = figures(bundle, "--wcet", "bundle", "--cores", "shared")
    assert found["cores"] == "shared" and {c["kind"] for c in found["changes"]} <= {"piece", "preempted", "own cores"}
    assert next(r for r in found["resources"] if r["name"] == "cpu")["longest_optional_ns"] is not None
    assert figures(bundle, "--wcet", "bundle", "--cores", "preempted")["notes"] == []


@pytest.mark.parametrize(("arguments", "told"), [
    (["no-such-thing"], "no scenario and no bundle"),
    (["no-such.toml"], "no such file"),
    (["made-up", "--rate", "30"], "--rate"),
    (["made-up", "--cpus", "2"], "--cpus"),
    (["made-up", "--policy", "fifo-gatd"], "did you mean 'fifo-gated'?"),
    (["made-up", "--wcet", "frist=2ms"], "no such stage"),
    (["made-up", "--wcet", "bundle"], "--wcet bundle"),
    (["made-up", "--wcet", "first=2"], "no unit"),
    (["made-up", "--cores", "many"], "--cores many"),
    (["made-up", "--load", "-1"], "--load"),
    (["made-up", "--wakeup", "fast"], "--wakeup"),
    (["fashion", "--wcet", "bundle", "--rate", "0"], "--rate 0"),
    (["fashion", "--wcet", "bundle", "--cpus", "0"], "--cpus 0"),
    (["fashion", "--like", "none.db", "--rate", "3"], "--like"),
])
def test_a_command_line_that_cannot_be_right_is_one_line_and_2(monkeypatch, capsys, arguments, told):
    monkeypatch.setattr(sys, "argv", ["edgert", "admit", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == 2 and out == "" and len(err.strip().splitlines()) == 1 and told in err


def test_a_scenario_that_cannot_be_right_is_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[resources]\ncpu = 0\n")
    with pytest.raises(UsageError, match="cpu"):
        run(path)


# What a run says ------------------------------------------------------------------------------------------------------

STAGES = (Stage("toy/mandatory", "fpga", True, 300_000, 200_000), Stage("toy/stage1", "cpu", False, 3 * MS, MS))
AROUND = executive.Surroundings(MS, False, False, "3 x measured", 200_000, "measured too")


def test_a_refused_run_names_the_deadline_that_it_would_run_with_and_the_command_for_the_rest():
    stream = Stream("camera", 20 * MS, 3 * MS, STAGES)
    guard_ns = executive.guard(0, 3 * MS, 300_000, 200_000)
    with pytest.raises(AdmissionRefused) as refused:
        executive.admit([stream], {"fpga": 1, "cpu": 1}, "default", 2_900_000, AROUND, False, asked_guard_ns=2_900_000,
                        argv=["run", "toy", "--source", "video:my film.mp4"])
    assert "edgert admit toy --source 'video:my film.mp4'" in str(refused.value)
    tenths = re.search(r"--deadline ([0-9.]+)ms is admitted", str(refused.value))[1]
    again = replace(stream, deadline_ns=round(float(tenths) * MS))
    assert executive.admit([again], {"fpga": 1, "cpu": 1}, "default", 2_900_000, AROUND, False).answer == "certificate"
    assert guard_ns == 1_500_000


def test_the_overhead_is_counted_in_every_stage_and_stated_with_its_source():
    asked = executive.question([Stream("camera", 20 * MS, 33 * MS, STAGES)], {"fpga": 1, "cpu": 1}, "default", 5 * MS, AROUND)
    found = answer(asked)
    assert found.certificates["fpga"].tasks[0].cost_ns == 500_000
    stated = next(a for a in found.assumptions if a.kind == "overhead")
    assert stated.limit_ns == 200_000 and "measured too" in stated.text
    assert next(a for a in found.assumptions if a.kind == "stage").limit_ns == 300_000


def test_the_overhead_is_measured_with_records_and_frames_in_hand():
    class Counting(Recorder):
        added = 0

        def _add(self, kind, fields):
            self.added += 1

    recorder = Counting()
    streams = [Stream(f"camera{i}", 20 * MS, 33 * MS, STAGES) for i in range(20)]
    ns, source = executive.overhead(streams, {"fpga": 1, "cpu": 1}, "default", MS, recorder)
    assert ns > 0 and "decisions measured" in source and recorder.added >= 3 * executive.STEPS
