"""A policy of the user's that raises, chooses what it may not or never returns: live and simulated, the run goes on with mandatory
answers, its record adds up and replays, and policy, file and line are named."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
from live_runs import PATIENCE_S, Live, check_record

from edgert.errors import RecordError
from edgert.executive.replay import replay
from edgert.results.record import Run

AFTER = 30  # questions that are answered well before the fault
LIVE_NS = 100 * 10**9  # the monotonic clock is beyond; the virtual time in which a run measures its own overhead is not
FAULTS = {
    "raises": ("raise RuntimeError('out of ideas')", "raised RuntimeError: out of ideas in pick"),
    "not ready": ("return 'the first one'", "chose a value of type str, which is not ready in pick"),
    "never returns": ("while True: pass", "did not return from pick within"),
    "sleeps": ("import time; time.sleep(3600)", "did not return from pick within"),
}


def policy_file(folder, fault, method="pick", from_ns=0):
    """A policy that is well for a while, and while the engine's time is before `from_ns`; with the line of the fault."""
    path = folder / "faulty.py"
    path.write_text(textwrap.dedent(f"""
        from imprecise.policies import Policy

        class Faulty(Policy):
            name = "faulty"
            asked = 0

            def {method}(self, *given):
                self.asked += given[1].now_ns >= {from_ns}
                if self.asked > {AFTER}:
                    {fault}  # the fault
                return given[0][0] if {method == "pick"} else True

            {"" if method == "pick" else "def pick(self, ready, engine): return ready[0]"}

        POLICY = Faulty
    """).lstrip())
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "# the fault" in text)
    return path, line


def check_fault(record, path, line, told):
    """The record names the policy, its file and line, and holds only mandatory answers after refined ones."""
    counts = check_record(record)
    with Run(record) as run:
        said = run.meta["policy_fault"]
        assert told in said and f"policy 'faulty' ({path}:" in said, said
        named = int(re.search(r"faulty\.py:(\d+)\)", said)[1])
        assert named == line or "not ready" in told
        frames = run.frames[run.frames["status"] == "answered"]
        order = frames["release_ns"].argsort()
        refined = (frames["depth"][order] > 0).nonzero()[0]
        assert 5 < len(refined) <= AFTER + 1
        assert len(frames) - refined[-1] > 40 and (frames["depth"][order][refined[-1] + 1:] == 0).all()
    return counts


@pytest.mark.parametrize("kind", ["raises", "not ready", "never returns"])
def test_live(bundle, tmp_path, kind):
    fault, told = FAULTS[kind]
    path, line = policy_file(tmp_path, fault, from_ns=LIVE_NS)
    with Live(bundle, tmp_path / "run.db", "--rate", "60", "--duration", "2s", policy=str(path)) as live:
        assert live.finish() == 0, live.err
        assert f"the policy was switched off during the run: PolicyFault: policy 'faulty' ({path}:" in live.err
        assert any(told in reason for reason in live.summary()["validity"]["reasons"]), live.summary()["validity"]
        counts = check_fault(live.record, path, line, told)
        assert counts["answered"] > 80
        live.assert_nothing_left()


def test_live_in_another_question(bundle, tmp_path):
    """`wants` is asked in the middle of the engine's bookkeeping."""
    path, line = policy_file(tmp_path, "while True: pass", "wants", LIVE_NS)
    with Live(bundle, tmp_path / "run.db", "--rate", "60", "--duration", "2s", policy=str(path)) as live:
        assert live.finish() == 0, live.err
        check_fault(live.record, path, line, "did not return from wants within")


def simulated(path, record, frames):
    """`edgert simulate` in a process of its own, which ends; what it printed."""
    arguments = ["simulate", "made-up", "--policy", str(path), "--frames", str(frames), "--record", str(record)]
    done = subprocess.run([sys.executable, "-m", "edgert.cli", *arguments], capture_output=True, text=True, timeout=PATIENCE_S,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "1000"}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", FAULTS)
def test_simulated(tmp_path, kind):
    fault, told = FAULTS[kind]
    path, line = policy_file(tmp_path, fault)
    out = simulated(path, tmp_path / "simulated.db", 400)
    assert "was switched off" in out and told in out
    assert check_fault(tmp_path / "simulated.db", path, line, told)["missed"] == 0


def test_a_replay_says_that_the_policy_is_gone_or_has_changed(tmp_path):
    path, _ = policy_file(tmp_path, "pass")
    record = tmp_path / "simulated.db"
    simulated(path, record, 100)
    check_record(record)
    path.write_text(path.read_text() + "# changed\n")
    for told in ("has changed since", "No such file"):
        with Run(record) as run, pytest.raises(RecordError, match=told) as refused:
            replay(run)
        assert "faulty.py" in str(refused.value)
        path.unlink(missing_ok=True)
