"""What of this machine a run depends on, checked one by one, with a fix beside whatever is not right.

Levels: `ok`; `warning`: runs are possible, but slower, less steady or less complete; `failed`: this part does not work. Whether a run is
possible is said apart: a bundle can be read, shared memory can be had, and an accelerator passes its self-test.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import accelerators
from ..accelerators import litert
from ..bundle import Bundle, load
from ..errors import AcceleratorError, AcceleratorMissing, BundleError, UsageError
from . import floats

OK, WARNING, FAILED = "ok", "warning", "failed"
HOT_C = 75.0  # from here on processors of small boards begin to slow down
LOCKED_BYTES = 512 << 20  # what a dispatcher may need to lock
GOOD_CLOCKS = {"tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page", "xen", "global_timer", "arm_global_timer"}
_CAP_IPC_LOCK, _CAP_SYS_NICE = 14, 23
_TRY = """
import json, numpy
from edgert.executive import realtime
print(json.dumps([realtime.fifo(realtime.PRIORITY + 1).taken, realtime.lock_memory().taken]))
"""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, its level, what was found, and what to do about it ("" where it is ok)."""

    name: str
    level: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """All checks; whether a run is possible, and why or why not in `verdict`."""

    checks: list[Check] = field(default_factory=list)
    run_possible: bool = False
    verdict: str = ""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


class Machine:
    """The system's files below `root` ("/", or a copy in a test)."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str) -> str:
        """Content of a file, stripped; "" where it is not there or may not be read."""
        try:
            return (self.root / path).read_bytes().decode(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def texts(self, pattern: str) -> dict[str, str]:
        """Content of all files that match and can be read, by path."""
        found = {str(p.relative_to(self.root)): self.text(str(p.relative_to(self.root))) for p in sorted(self.root.glob(pattern))}
        return {path: text for path, text in found.items() if text}


def examine(bundle: str = "fashion", root: Path = Path("/"), say: Callable[[Check], None] = lambda check: None) -> Report:
    """Check everything; `say` gets each check as it is done. Raises UsageError for an unknown bundle, if the zoo has any."""
    machine = Machine(root)
    checks: list[Check] = []

    def add(found: Iterator[Check]) -> None:
        for check in found:
            checks.append(check)
            say(check)

    for part in (_software, _cores, _clock, _frequency, _heat, _permissions, _board):
        add(part(machine))
    loaded: list[Bundle] = []
    works: list[str] = []
    add(_bundle(bundle, loaded))
    add(_runtime(machine, loaded))
    for one in loaded:
        add(_self_tests(machine, one, works))
    memory = not any(c.name == "shared memory" and c.level == FAILED for c in checks)
    possible = bool(loaded) and bool(works) and memory
    lacking = [text for text, there in (("no usable bundle", loaded), ("no accelerator that passes its self-test", works or not loaded),
                                        ("no shared memory", memory)) if not there]
    verdict = f"a run is possible, mandatory part on {works[0]}" if possible else f"no run is possible: {', '.join(lacking)}"
    return Report(checks, possible, verdict)


def _software(machine: Machine) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    known = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Check("python", OK if known else WARNING, version, "" if known else "edgert is tested with Python 3.10 to 3.13")
    numpy_ok = tuple(int(part) for part in np.__version__.split(".")[:2]) >= (1, 21)
    yield Check("numpy", OK if numpy_ok else WARNING, np.__version__, "" if numpy_ok else "pip install 'numpy>=1.21'")
    yield Check("system", OK, f"{platform.system()} {platform.release()}, {platform.machine()}")
    try:
        os.close(os.memfd_create("edgert-doctor"))
        yield Check("shared memory", OK, "memfd")
    except (AttributeError, OSError) as error:
        yield Check("shared memory", FAILED, f"memfd_create: {error}", "use Linux 3.17 or later with glibc 2.27 or later")
    if platform.machine().startswith("armv7"):
        if floats.vfpv4(machine.root / "proc"):
            yield Check("floating point", OK, "VFPv4")
        else:
            yield Check("floating point", WARNING, "no VFPv4: float models end in an illegal instruction",
                        "use int8 stages only (bundles of the zoo do)")


def _cores(machine: Machine) -> Iterator[Check]:
    allowed = sorted(os.sched_getaffinity(0))
    isolated = machine.text("sys/devices/system/cpu/isolated")
    found = f"{os.cpu_count()}, {len(allowed)} for this process, " + (f"isolated: {isolated}" if isolated else "none isolated")
    if len(allowed) > 1:
        yield Check("cores", OK, found)
    else:
        yield Check("cores", WARNING, f"{found}: refinement shares the dispatcher's core",
                    "allow more with taskset or the container's settings")


def _clock(machine: Machine) -> Iterator[Check]:
    source = machine.text("sys/devices/system/clocksource/clocksource0/current_clocksource") or "unknown"
    begin = time.perf_counter_ns()
    for _ in range(1000):
        time.monotonic_ns()
    call_ns = (time.perf_counter_ns() - begin) // 1000
    good = source in GOOD_CLOCKS or (source == "unknown" and call_ns < 1000)
    others = machine.text("sys/devices/system/clocksource/clocksource0/available_clocksource")
    yield Check("clock source", OK if good else WARNING, f"{source}, {call_ns} ns a reading",
                "" if good else f"boot with clocksource=NAME of a faster one; there are {others or 'none told'}")


def _frequency(machine: Machine) -> Iterator[Check]:
    governors = set(machine.texts("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor").values())
    if not governors:
        yield Check("governor", OK, "no frequency scaling to be seen (a virtual machine, or a fixed clock)")
    elif governors == {"performance"}:
        yield Check("governor", OK, "performance")
    else:
        yield Check("governor", WARNING, ", ".join(sorted(governors)) + ": stages take longer after a pause",
                    "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")


def _heat(machine: Machine) -> Iterator[Check]:
    raw = {**machine.texts("sys/class/thermal/thermal_zone*/temp"), **machine.texts("sys/class/hwmon/hwmon*/temp*_input")}
    degrees = [int(text) / 1000 for text in raw.values() if text.lstrip("-").isdigit()]
    if not degrees:
        yield Check("temperature", OK, "no sensor to be seen")
    else:
        hot = max(degrees) >= HOT_C
        yield Check("temperature", WARNING if hot else OK, f"{max(degrees):.0f} C at the hottest of {len(degrees)} sensors",
                    "cool it, or expect the clock to be lowered in long runs" if hot else "")
    throttled = machine.text("sys/devices/platform/soc/soc:firmware/get_throttled")
    if throttled and int(throttled, 16):
        yield Check("throttling", WARNING, f"the firmware reports 0x{int(throttled, 16):x}", "use a stronger power supply, and cool it")


def _permissions(machine: Machine) -> Iterator[Check]:
    """Tried in a process of its own, by what a run does."""
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", _TRY], env=environment, capture_output=True, text=True, check=False)
    priority, locked = json.loads(done.stdout) if done.returncode == 0 else (False, False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Check("permissions", WARNING, f"cannot be tried: {reason}", "repair the installation: pip install --force-reinstall edgert")
    capable = int(next((line.split()[1] for line in machine.text("proc/self/status").splitlines() if line.startswith("CapEff")), "0"), 16)
    rtprio = resource.getrlimit(getattr(resource, "RLIMIT_RTPRIO", 14))[0]
    why = "CAP_SYS_NICE" if capable >> _CAP_SYS_NICE & 1 else f"limit rtprio {rtprio}"
    yield Check("real-time priority", OK if priority else WARNING, f"SCHED_FIFO {'permitted' if priority else 'refused'} ({why})",
                "" if priority else "add '@realtime - rtprio 99' to /etc/security/limits.conf, join that group and log in again; in a "
                "container: --cap-add SYS_NICE --ulimit rtprio=99")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    free = limit == resource.RLIM_INFINITY or bool(capable >> _CAP_IPC_LOCK & 1)
    enough = locked and (free or limit >= LOCKED_BYTES)
    size = "no limit" if free else f"limit memlock {limit >> 10} kB"
    yield Check("locked memory", OK if enough else WARNING, f"mlockall {'permitted' if locked else 'refused'} ({size})",
                "" if enough else "add '@realtime - memlock unlimited' to /etc/security/limits.conf, join that group and log in again; "
                "in a container: --ulimit memlock=-1")


def _board(machine: Machine) -> Iterator[Check]:
    model = machine.text("proc/device-tree/model")
    managers = machine.texts("sys/class/fpga_manager/*/state")
    pynq = "; the package pynq is installed, which does not make a board" if importlib.util.find_spec("pynq") else ""
    if not managers:
        what = f"{model}, which has no FPGA" if model else "none: no device tree and no FPGA manager"
        yield Check("board", OK, f"{what}; the mandatory part runs on the CPU{pynq}")
        return
    states = ", ".join(f"{Path(path).parent.name} {state}" for path, state in managers.items())
    operating = all(state == "operating" for state in managers.values())
    yield Check("board", OK if operating else WARNING, f"{model or 'unknown model'}, FPGA manager {states}",
                "" if operating else "load a bitstream: nothing may touch the FPGA's registers before that")


def _bundle(name: str, loaded: list[Bundle]) -> Iterator[Check]:
    try:
        bundle = load(name)
    except BundleError as error:
        yield Check("bundle", FAILED, error.message, error.next_step)
        return
    except UsageError as error:
        from ..bundle import zoo_names

        if zoo_names():
            raise
        yield Check("bundle", FAILED, f"{error.message}; this installation has no bundle at all", "pip install --force-reinstall edgert")
        return
    loaded.append(bundle)
    yield Check("bundle", OK, f"{bundle.name} {bundle.version}, {len(bundle.contents)} files as the manifest says")


def _runtime(machine: Machine, loaded: list[Bundle]) -> Iterator[Check]:
    try:
        _, name = litert.runtime()
    except AcceleratorMissing as error:
        yield Check("tflite runtime", WARNING, f"{error.message}: no refinement stage can run", error.next_step)
        return
    yield Check("tflite runtime", OK, name)
    for bundle in loaded:
        stages = [file for file in ("mandatory.tflite", *bundle.stage_files) if file in bundle.contents]
        slow, broken = [], []
        for file in stages:
            try:
                interpreter, _ = litert.load(bundle.contents[file], file)
            except AcceleratorError as error:
                broken.append(error)
                continue
            if not litert.delegated(interpreter):
                slow.append(file)
        if broken:
            yield Check("delegation", FAILED, broken[0].message, broken[0].next_step or "fetch the bundle again, or update the runtime")
        elif slow:
            yield Check("delegation", WARNING, f"{', '.join(slow)}: not wholly in XNNPACK, so slower, and the mandatory part not exact",
                        f"{litert.INSTALL} (64-bit machines); else the mandatory part runs on numpy")
        else:
            yield Check("delegation", OK, f"{len(stages)} of {len(stages)} models of {bundle.name} run wholly in XNNPACK")


def _self_tests(machine: Machine, bundle: Bundle, works: list[str]) -> Iterator[Check]:
    """Every accelerator, best first; `works` gets the names of those that `auto` could take, in that order."""
    no_fpga = not machine.texts("sys/class/fpga_manager/*/state")
    usual = accelerators.by_rank()
    for name in [*usual, *(n for n in accelerators.names() if n not in usual)]:
        hardware = False
        try:
            made = accelerators.make(name)
            if getattr(made, "builds", False):
                yield Check(f"accelerator {name}", OK, f"not tried, it is built first; edgert board selftest --accelerator {name} does")
                continue
            hardware = getattr(made, "hardware", False)
            accelerator, why = accelerators.choose(name, bundle)
        except AcceleratorMissing as error:
            if hardware and no_fpga:
                yield Check(f"accelerator {name}", OK, error.message)
                continue
            yield Check(f"accelerator {name}", WARNING, error.message, error.next_step or "choose another one with --accelerator")
            continue
        except (AcceleratorError, BundleError) as error:
            yield Check(f"accelerator {name}", FAILED, error.message, error.next_step or "choose another one with --accelerator")
            continue
        try:
            frames = bundle.arrays("golden.npz")["frames"]
            times = []
            for index in range(200):
                begin = time.perf_counter_ns()
                accelerator.infer(frames[index % len(frames)], time.monotonic_ns() + 10**9)
                times.append(time.perf_counter_ns() - begin)
            found = f"{why.partition('; ')[2]}, {np.median(times) / 1e3:.0f} us a frame"
            if name in usual:
                works.append(name)
            yield Check(f"accelerator {name}", OK, found)
        except AcceleratorError as error:
            yield Check(f"accelerator {name}", FAILED, error.message, error.next_step or "choose another one with --accelerator")
        finally:
            accelerator.close()
