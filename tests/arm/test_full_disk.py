"""A disk of the other machine that is full, or becomes full in the middle: said, nothing broken, and with room it goes on."""

import random
import subprocess
from pathlib import Path

import pytest

import other_machine
import small_bundle
from edgert.board import deploy as deploying
from edgert.board import receiver, ssh
from edgert.errors import NoSpace


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A machine whose folder is a disk of its own, of 9 MB; a deployment of more than that; and what makes the disk larger."""
    machine = other_machine.StandIn(tmp_path / "home")
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    machine.base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", machine.base], check=True)
    wheels = other_machine.wheel(tmp_path / "wheels", data=random.Random(0).randbytes(4 << 20).hex()).parent
    bundle = str(small_bundle.make(tmp_path / "toy"))
    yield machine, lambda: deploying.deploy(bundle, machine.target, lambda text: None, wheels=wheels, seconds=0)
    subprocess.run(["umount", machine.base], check=True)


def enlarge(machine):
    subprocess.run(["mount", "-o", "remount,size=200m", machine.base], check=True)


def test_too_small_from_the_start(small):
    machine, put = small
    with pytest.raises(NoSpace, match=r"has [89] MB free for ~/edgert, .* MB are needed; make room there"):
        put()
    assert machine.versions() == []
    enlarge(machine)
    assert machine.link("current") == "" != put().version == machine.link("current")


def test_full_in_the_middle(small, monkeypatch, tmp_path):
    machine, put = small
    blind = tmp_path / "blind.py"
    text = Path(receiver.__file__).read_text()
    assert "    if room > free:" in text
    blind.write_text(text.replace("    if room > free:", "    if False:"))
    monkeypatch.setattr(ssh.receiver, "__file__", str(blind))
    with pytest.raises(NoSpace, match=r"has 0 MB free for ~/edgert; make room there"):
        put()
    assert machine.versions() == [] and machine.link("current") == ""
    enlarge(machine)
    done = put()
    assert machine.link("current") == done.version and done.sent_bytes < 9 << 20
    machine.assert_whole()
