"""A policy of the user's own that cannot be watched, as SIGALRM is in use: the run says so, and goes on."""

import signal

import pytest
from live_runs import Live, check_record

POLICY = """
import signal
from imprecise.policies import Policy

class Mine(Policy):
    name = "mine"

    def pick(self, ready, engine):
        return ready[0]

{listen}
POLICY = Mine
"""


@pytest.mark.parametrize(("listen", "told"), [("", False), ("signal.signal(signal.SIGALRM, lambda *_: None)", True)])
def test_a_policy_that_is_not_timed_is_said(bundle, tmp_path, listen, told):
    (tmp_path / "mine.py").write_text(POLICY.format(listen=listen))
    with Live(bundle, tmp_path / "run.db", "--policy", str(tmp_path / "mine.py"), "--rate", "50") as live:
        live.wait_frames(10)
        assert live.finish(signal.SIGTERM) == 0, live.err
    said = "policy 'mine': policies are not timed: SIGALRM is in use" in live.err
    assert said is told, live.err
    check_record(tmp_path / "run.db")
