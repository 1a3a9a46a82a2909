"""An emulated Arm machine behind a real sshd, and `edgert` on both sides."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import arm_root  # noqa: E402

import other_machine  # noqa: E402

TIMEOUT_S = 900


class ArmMachine(other_machine.Loopback):
    """A root of another processor; every command that comes through ssh runs in it."""

    def __init__(self, machine, keys):
        self.root = arm_root.make(machine, ROOT / "build" / "arm" / machine)
        arm_root.mount(self.root)
        self.inside = arm_root.environment(machine)
        shutil.rmtree(self.root / "root")
        enter = keys.with_name(keys.name + "-enter")
        setting = " ".join(f"{name}={value}" for name, value in self.inside.items())
        enter.write_text(f'#!/bin/sh\nexec env -i {setting} chroot {self.root} /bin/bash -c "cd; $SSH_ORIGINAL_COMMAND"\n')
        enter.chmod(0o755)
        super().__init__(self.root / "root", f"ForceCommand {enter}\n", python=Path("/usr/bin"), keys=keys)
        self.flags = ["--port", str(self.target.port), "-i", str(self.target.identity),
                      *(part for option in self.target.options for part in ("-o", option))]

    def inside_run(self, *command, cpu=None, check=True, limit_s=TIMEOUT_S):
        """Run a command in the root, without ssh."""
        environment = {**self.inside, **({"QEMU_CPU": cpu} if cpu else {})}
        done = subprocess.run(["chroot", str(self.root), "/bin/bash", "-c", 'cd; exec "$@"', "bash", *command], env=environment,
                              capture_output=True, text=True, check=False, timeout=limit_s)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def edgert(self, *arguments, **options):
        """`edgert` of the version in use, in the root."""
        return self.inside_run("/root/edgert/current/edgert", *arguments, **options)

    def python(self, code, *arguments, **options):
        """Run a Python text with edgert of the version in use on its path."""
        return self.inside_run("/usr/bin/env", "PYTHONPATH=/root/edgert/current/python", "python3", "-c", code, *arguments, **options)

    def deploy(self, *arguments):
        """`edgert deploy` from here, as a person would type it; its JSON."""
        return json.loads(here("deploy", *arguments, self.target.host, *self.flags, "--json").stdout)


def here(*arguments, code=0):
    """`edgert` on this side."""
    done = subprocess.run([sys.executable, "-m", "edgert.cli", *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
    assert done.returncode == code, done.stdout + done.stderr
    return done
