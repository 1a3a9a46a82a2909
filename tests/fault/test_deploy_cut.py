"""A deployment that is cut, altered or refused anywhere leaves what was in use before, and typing it again ends well."""

import contextlib
import dataclasses
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import other_machine
import small_bundle
from edgert.board import deploy as deploying
from edgert.board import package, receiver, ssh
from edgert.errors import (
    ConnectionLost,
    DeployRefused,
    HashMismatch,
    HostKeyRefused,
    HostUnreachable,
    LoginRefused,
    NoSpace,
    RecordError,
    RemoteError,
)
from edgert.results.record import Run


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Two bundles that differ in every model, and a third whose golden answers are wrong."""
    root = tmp_path_factory.mktemp("bundles")
    one, two = (str(small_bundle.make(root / name, name="toy", seed=seed)) for name, seed in (("one", 0), ("two", 5)))
    wrong = small_bundle.make(root / "wrong", name="toy", seed=7)
    (wrong / "golden.npz").write_bytes((Path(one) / "golden.npz").read_bytes())
    small_bundle.write_manifest(wrong)
    return one, two, str(wrong)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """Folders of wheels: a light one, and one that takes a while to send."""
    light, heavy = tmp_path_factory.mktemp("light"), tmp_path_factory.mktemp("heavy")
    other_machine.wheel(light)
    other_machine.wheel(heavy, heavy__data="".join(random.Random(0).choices("0123456789abcdef", k=1 << 20)), heavy__more="x" * 99_999)
    return light, heavy


@pytest.fixture(scope="session")
def source():
    """The source of edgert, read once: others may be at work on it."""
    return list(package.own_files())


@pytest.fixture(scope="session")
def template(tmp_path_factory, bundles, wheels, source):
    """The home of a machine where the first bundle is in use, and the name of that version."""
    patch = pytest.MonkeyPatch()
    try:
        patch.setattr(package, "own_files", lambda: source)
        machine = other_machine.StandIn(tmp_path_factory.mktemp("template") / "home")
        for name, value in machine.environment.items():
            patch.setenv(name, value)
        first = deploying.deploy(bundles[0], machine.target, lambda text: None, wheels=wheels[0], seconds=0)
    finally:
        patch.undo()
    assert machine.link("current") == first.version and machine.link("previous") == "" and not first.there
    assert not (machine.base / "incoming").exists()
    return machine.base, first.version


@contextlib.contextmanager
def made(kind, tmp_path, monkeypatch, template=None):
    """A machine; with `template` one where the first bundle is in use already."""
    machine = (other_machine.StandIn if kind == "stand-in" else other_machine.Loopback)(tmp_path / "home")
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    if template:
        shutil.copytree(template[0], machine.base, symlinks=True)
        machine.first = template[1]
    try:
        yield machine
    finally:
        machine.close()


@pytest.fixture
def bare(tmp_path, monkeypatch):
    with made("stand-in", tmp_path, monkeypatch) as one:
        yield one


@pytest.fixture
def stand_in(tmp_path, monkeypatch, template):
    with made("stand-in", tmp_path, monkeypatch, template) as one:
        yield one


@pytest.fixture(params=["stand-in", *([pytest.param("sshd", marks=pytest.mark.slow)] if other_machine.SSHD else [])])
def machine(request, tmp_path, monkeypatch, template):
    with made(request.param, tmp_path, monkeypatch, template) as one:
        yield one


@pytest.fixture
def put(wheels, source, monkeypatch):
    """Deploys a bundle to a machine without measuring throughput."""
    monkeypatch.setattr(package, "own_files", lambda: source)

    def put(bundle, machine, say=lambda text: None, target=None, heavy=False):
        return deploying.deploy(bundle, target or machine.target, say, wheels=wheels[heavy], seconds=0)
    return put


def golden_frames_pass(machine):
    done = machine.run("board", "selftest", "--bundle", "toy", "--seconds", "0")
    return done.returncode == 0, done.stdout + done.stderr


def test_cut_again_and_again_at_random_bytes_it_resumes_and_never_shows_half_a_version(machine, bundles, put):
    two = bundles[1]
    rng = random.Random(machine.__class__.__name__)
    cuts = 0
    while True:
        machine.cut(rng.randrange(1, 350_000) if cuts < 6 else 10**9)
        try:
            done = put(two, machine, heavy=True)
            break
        except (ConnectionLost, HostUnreachable):
            cuts += 1
        assert machine.link("current") == machine.first
        machine.assert_whole()
    assert cuts == 6
    assert machine.link("current") == done.version != machine.first == machine.link("previous")
    assert not (machine.base / "incoming").exists()
    machine.assert_whole()
    passed, said = golden_frames_pass(machine)
    assert passed, said
    assert done.sent_bytes < 1_000_000  # what had arrived before the cuts, or was in the other version, was not sent again


@pytest.mark.slow
def test_cut_close_to_the_end_one_of_both_is_in_use_and_again_ends_well(stand_in, bundles, put):
    two = bundles[1]
    stand_in.plan()
    put(two, stand_in)
    whole = stand_in.counted()
    for before_the_end in (1, 40, 400, 4000):
        deploying.rollback(stand_in.target, lambda text: None)
        fresh_start(stand_in, stand_in.first)
        stand_in.cut(whole - before_the_end)
        with contextlib.suppress(ConnectionLost):
            put(two, stand_in)
        stand_in.assert_whole()
        assert stand_in.link("current") in stand_in.versions()
        stand_in.plan()
        done = put(two, stand_in)
        assert stand_in.link("current") == done.version and stand_in.link("previous") == stand_in.first
        stand_in.assert_whole()


def fresh_start(machine, version):
    """Only `version` is there, and in use."""
    assert machine.link("current") == version
    (machine.base / "previous").unlink()
    receiver.prune(str(machine.base))
    assert machine.versions() == [version]


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True], ids=["closed", "killed"])
def test_cut_once_at_each_of_many_random_bytes(stand_in, bundles, put, kill):
    two = bundles[1]
    stand_in.plan()
    put(two, stand_in, heavy=True)
    whole = stand_in.counted()
    deploying.rollback(stand_in.target, lambda text: None)
    fresh_start(stand_in, stand_in.first)
    rng = random.Random(kill)
    lost = 0
    for at in sorted(rng.randrange(1, whole) for _ in range(12)):
        stand_in.cut(at, kill)
        with pytest.raises(RemoteError):
            put(two, stand_in, heavy=True)
        lost += 1
        assert stand_in.link("current") == stand_in.first
        stand_in.assert_whole()
        stand_in.plan()
        done = put(two, stand_in, heavy=True)
        assert stand_in.link("current") == done.version and stand_in.link("previous") == stand_in.first
        stand_in.assert_whole()
        deploying.rollback(stand_in.target, lambda text: None)
        fresh_start(stand_in, stand_in.first)
    assert lost == 12


def test_the_same_again_sends_nothing_and_keeps_the_one_before(stand_in, bundles, put):
    two = bundles[1]
    second = put(two, stand_in)
    again = put(two, stand_in)
    assert again.there and again.sent_bytes == 0 and again.version == second.version
    assert stand_in.link("previous") == stand_in.first


def test_a_bit_that_turns_on_the_way_is_found_and_sent_again(bare, bundles, put):
    bare.plan(flip=600_000)
    said = []
    done = put(bundles[0], bare, said.append)
    assert any("arrived altered" in text for text in said), said
    assert bare.link("current") == done.version
    bare.assert_whole()


def test_what_arrives_altered_every_time_is_a_hash_mismatch(stand_in, bundles, put, monkeypatch):
    monkeypatch.setattr(package.File, "sha256", property(lambda file: f"{abs(hash(file.content)):064x}"))
    with pytest.raises(HashMismatch, match=r"arrived altered 2 times.*expected sha256"):
        put(bundles[1], stand_in)
    assert stand_in.link("current") == stand_in.first


def test_golden_frames_that_differ_there_are_refused(stand_in, bundles, put):
    with pytest.raises(DeployRefused, match=r"golden.* differ.*what was in use there still is"):
        put(bundles[2], stand_in)
    assert stand_in.link("current") == stand_in.first and stand_in.versions() == [stand_in.first]


def test_a_version_that_does_not_load_is_refused(stand_in, bundles, put, monkeypatch):
    own = package.own_files()
    monkeypatch.setattr(package, "own_files", lambda: [*(f for f in own if f[0] != "edgert/__init__.py"), ("edgert/__init__.py", b"boom")])
    with pytest.raises(DeployRefused, match=r"does not pass its self-test.*boom"):
        put(bundles[1], stand_in)
    assert stand_in.link("current") == stand_in.first and stand_in.versions() == [stand_in.first]


def test_a_version_that_does_not_start_once_in_use_is_taken_back(stand_in, bundles, put, monkeypatch):
    second = put(bundles[1], stand_in)
    broken = package.LAUNCHER.replace("here=", 'case "$0" in */current/*) echo no luck >&2; exit 7;; esac\nhere=', 1)
    monkeypatch.setattr(package, "LAUNCHER", broken)
    with pytest.raises(DeployRefused, match=rf"no luck.*in use again: {second.version}"):
        put(bundles[0], stand_in)
    assert (stand_in.link("current"), stand_in.link("previous")) == (second.version, stand_in.first)
    stand_in.assert_whole()


def test_a_version_that_was_altered_there_is_replaced_not_trusted(stand_in, bundles, put):
    victim = stand_in.base / "versions" / stand_in.first / "python" / "edgert" / "zoo" / "toy" / "card.md"
    victim = victim if victim.exists() else victim.with_name("golden.npz")
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    done = put(bundles[0], stand_in)
    assert done.version == f"{stand_in.first}.2" == stand_in.link("current") and done.sent_bytes < 40_000


def test_rolling_back_changes_places_and_refuses_what_was_altered(stand_in, bundles, put):
    with pytest.raises(RemoteError, match="nothing is deployed"):
        deploying.rollback(dataclasses.replace(stand_in.target, folder="elsewhere"), lambda text: None)
    with pytest.raises(RemoteError, match="no version before"):
        deploying.rollback(stand_in.target, lambda text: None)
    second = put(bundles[1], stand_in)
    assert deploying.rollback(stand_in.target, lambda text: None).version == stand_in.first
    assert (stand_in.link("current"), stand_in.link("previous")) == (stand_in.first, second.version)
    (stand_in.base / "versions" / second.version / "start.py").write_text("")
    with pytest.raises(HashMismatch, match="was altered"):
        deploying.rollback(stand_in.target, lambda text: None)
    assert stand_in.link("current") == stand_in.first


def test_a_full_disk_is_said_before_anything_is_sent(bare, bundles, put, monkeypatch, tmp_path):
    small = tmp_path / "receiver.py"
    small.write_text(Path(receiver.__file__).read_text().replace("SPARE_BYTES = 32 << 20", "SPARE_BYTES = 1 << 60"))
    monkeypatch.setattr(ssh.receiver, "__file__", str(small))
    with pytest.raises(NoSpace, match=r"MB free for ~/edgert, .* MB are needed; make room there: ssh me@machine df -h"):
        put(bundles[0], bare)
    assert bare.versions() == []


@pytest.mark.slow
def test_two_at_once_wait_for_each_other(stand_in, bundles, put, monkeypatch):
    monkeypatch.setattr(deploying, "WAIT_S", 0.5)
    with open(stand_in.base / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RemoteError, match="another deployment"):
            put(bundles[1], stand_in)
        monkeypatch.setattr(deploying, "WAIT_S", 30)
        threading.Timer(1, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        put(bundles[1], stand_in)


@pytest.mark.slow
def test_a_version_that_a_run_uses_is_not_removed(stand_in, bundles, put):
    with open(stand_in.base / "versions" / stand_in.first / "FILES") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        put(bundles[1], stand_in)
        put(bundles[0], stand_in)
        put(bundles[1], stand_in)
        assert stand_in.first in stand_in.versions()


# A board whose FPGA only root may touch -----------------------------------------------------------------------------------


@pytest.fixture
def board(stand_in, monkeypatch):
    """A PYNQ board with a user who is not root; `sudo` there does what its file says."""
    real = deploying.look
    (stand_in.home / "bin").mkdir()

    def look(link):
        return {**real(link), "uid": 1000, "fpga": True, "pynq": True}

    def sudo(text):
        program = stand_in.home / "bin" / "sudo"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return stand_in

    monkeypatch.setattr(deploying, "look", look)
    with open(stand_in.home / ".bash_profile", "a") as file:
        file.write('export XILINX_XRT=/usr\nexport PATH="$HOME/bin:$PATH"\n')
    return sudo


def test_on_a_pynq_board_commands_run_as_root_in_a_login_shell(board, bundles, put, monkeypatch):
    machine = board('[ "$1" = -n ] && shift && echo "$*" >> "$HOME/became" && exec env -i HOME="$HOME" PATH=/usr/bin:/bin ROOT=1 "$@"')
    launcher = package.LAUNCHER.replace("export PYTHONPATH\n", 'export PYTHONPATH\necho "$ROOT $XILINX_XRT" >> "$HOME/seen"\n')
    monkeypatch.setattr(package, "LAUNCHER", launcher)
    done = put(bundles[1], machine)
    assert machine.link("current") == done.version
    assert set((machine.home / "seen").read_text().splitlines()) == {"1 /usr"}
    assert all(line.startswith("bash -lc ") for line in (machine.home / "became").read_text().splitlines())


def test_where_the_board_does_not_let_become_root_it_says_how_to_allow_it(board, bundles, put):
    machine = board("echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(LoginRefused, match=r"become root without a password.*NOPASSWD"):
        put(bundles[1], machine)
    assert machine.link("current") == machine.first


# Real ssh -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def loopback(tmp_path, monkeypatch):
    with made("sshd", tmp_path, monkeypatch) as one:
        yield one


if other_machine.SSHD:
    def test_an_unknown_or_changed_host_key_and_a_refused_login_end_it(loopback, bundles, put, tmp_path):
        empty = tmp_path / "empty"
        empty.write_text("")
        with pytest.raises(HostKeyRefused, match=r"is not known here.*compare the fingerprint"):
            put(bundles[0], loopback, target=loopback.named(known=empty))
        assert empty.read_text() == ""  # nothing was accepted on the way
        loose = loopback.named(known=empty)
        loose = ssh.Target(loose.host, loose.port, loose.identity, ("StrictHostKeyChecking=no", *loose.options))
        with pytest.raises(HostKeyRefused):
            put(bundles[0], loopback, target=loose)
        other = tmp_path / "other"
        other.write_text(loopback.known.read_text().split()[0] + " " + " ".join((loopback.keys / "stranger.pub").read_text().split()[:2]))
        with pytest.raises(HostKeyRefused, match="not the one known"):
            put(bundles[0], loopback, target=loopback.named(known=other))
        with pytest.raises(LoginRefused, match=r"Permission denied.*ssh-copy-id"):
            put(bundles[0], loopback, target=loopback.named(identity="stranger"))
        assert not loopback.base.exists()
        loopback.close()
        with pytest.raises(HostUnreachable, match="Connection"):
            put(bundles[0], loopback)


# Running there ------------------------------------------------------------------------------------------------------------


def remote(machine, *arguments):
    """`edgert remote run` in a process of its own."""
    target = machine.target
    flags = [*(["--port", str(target.port), "-i", str(target.identity)] if target.port else []),
             *(part for option in target.options for part in ("-o", option))]
    return subprocess.Popen([sys.executable, "-m", "edgert.cli", "remote", "run", target.host, *flags, *arguments], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def wait_frames(machine, process):
    """Until the record there holds ten frames."""
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(Exception), Run(next((machine.base / "runs").glob("*.db"))) as run:  # perhaps not made yet
            if len(run.frames) >= 10:
                return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


LONG = ("--best-effort", "--policy", "fifo-gated", "--deadline", "200ms", "--rate", "20")


def test_a_run_there_brings_its_record_here_whatever_ends_it(machine, bundles, put, tmp_path):
    from live_runs import check_record

    done = remote(machine, *LONG, "--duration", "1s", "--record", str(tmp_path / "a.db"))
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert str(tmp_path / "a.db") in out and "20 frames" in out and str(machine.home) not in out
    assert check_record(tmp_path / "a.db")["answered"] > 0
    done = remote(machine, "--best-effort", "--like", str(tmp_path / "a.db"), "--record", str(tmp_path / "b.db"))
    wait_frames(machine, done)
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err  # without --duration it ends when it is told to
    check_record(tmp_path / "b.db")
    assert list((machine.base / "runs").iterdir()) == []


def test_a_run_whose_connection_is_lost_ends_in_order_and_its_record_can_be_fetched(stand_in, bundles, put, tmp_path):
    from live_runs import check_record

    from edgert.board import remote as running

    done = remote(stand_in, *LONG, "--record", str(tmp_path / "a.db"))
    wait_frames(stand_in, done)
    (ssh_there,) = children(done.pid)
    os.kill(ssh_there, signal.SIGKILL)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 3 and "edgert remote fetch" in err, err
    end = time.monotonic() + 30
    while receiver.in_use(str(stand_in.base / "current")):
        assert time.monotonic() < end
        time.sleep(0.2)
    running.fetch(stand_in.target, "", tmp_path / "b.db")
    check_record(tmp_path / "b.db")
    with pytest.raises(RecordError, match="no such record"):
        running.fetch(stand_in.target, "", tmp_path / "c.db")


def children(pid):
    """Process ids of the children of a process."""
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
