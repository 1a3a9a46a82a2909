"""Make a root file system of Debian 12 for another processor, and run programs in it, emulated. Needs root; no board.

    python3 tools/arm_root.py arm64 build/arm/arm64        # Cortex-A72, as a Raspberry Pi 4
    python3 tools/arm_root.py armhf build/arm/armhf        # Cortex-A9, as a PYNQ-Z2

What the system lacks for it is installed with apt-get: mmdebstrap, qemu-user-static, openssh-server. Packages come from where this
system's own come from. Emulation says what is right and what is an illegal instruction, never how long anything takes.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "bookworm"
HOST = ("mmdebstrap", "qemu-user-static", "openssh-server", "openssh-client")
INSIDE = ("python3", "python3-numpy", "libstdc++6", "bash", "dash", "coreutils", "base-files", "libc-bin", "util-linux", "ca-certificates")
MACHINES = {"arm64": ("aarch64", "aarch64-linux-gnu", "cortex-a72"), "armhf": ("arm", "arm-linux-gnueabihf", "cortex-a9")}
BINFMT = Path("/proc/sys/fs/binfmt_misc")


def install(packages: tuple[str, ...]) -> None:
    """Install what is lacking of Debian's packages."""
    lacking = [name for name in packages if subprocess.run(["dpkg", "-s", name], capture_output=True, check=False).returncode]
    if not lacking:
        return
    if os.getuid() != 0:
        sys.exit(f"arm_root: the system lacks {', '.join(lacking)}; install them: sudo apt-get install {' '.join(lacking)}")
    for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *lacking]):
        subprocess.run(["apt-get", *command], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=True,
                       stdout=subprocess.DEVNULL)


def sources() -> str:
    """Where this system takes Debian's main suite from, as one line for apt."""
    texts = [path.read_text() for path in (*Path("/etc/apt/sources.list.d").glob("*.sources"),)]
    for stanza in (part for text in texts for part in text.split("\n\n")):
        fields = dict(re.findall(r"^([A-Za-z-]+):\s*(.*)$", stanza, re.M))
        if fields.get("Suites", "").split()[:1] and SUITE in fields["Suites"].split():
            return f"deb {fields['URIs'].split()[0]} {SUITE} main"
    for path in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.list")):
        found = re.search(rf"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{SUITE}\s", path.read_text() if path.exists() else "", re.M)
        if found:
            return f"deb {found[1]} {SUITE} main"
    return SUITE  # mmdebstrap's own choice


def emulate(processor: str) -> None:
    """Have the kernel run programs of that processor with qemu."""
    if platform.machine() == {"arm": "armv7l"}.get(processor, processor):
        return
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    if not (BINFMT / f"qemu-{processor}").exists():
        line = Path(f"/usr/lib/binfmt.d/qemu-{processor}.conf").read_text().strip()
        (BINFMT / "register").write_text(line)


def make(machine: str, root: Path) -> Path:
    """The root, made where it is not there yet."""
    install(HOST)
    processor, triplet, _ = MACHINES[machine]
    emulate(processor)
    made = f"{SUITE} {' '.join(INSIDE)}\n"
    marker = root / "made"
    if marker.exists() and marker.read_text() == made:
        return root
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--architectures={machine}", f"--include={','.join(INSIDE)}", SUITE,
               str(root), sources()]
    subprocess.run(command if " " in command[-1] else command[:-1], check=True)
    for name in ("blas", "lapack"):  # what update-alternatives would have done
        (root / "usr/lib" / triplet / f"lib{name}.so.3").symlink_to(f"{name}/lib{name}.so.3")
    for folder in ("proc", "dev", "sys", "tmp", "root"):
        (root / folder).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    marker.write_text(made)
    return root


def mount(root: Path) -> None:
    """Give it /proc, /dev and /sys. Do it in a mount namespace of your own (`unshare --mount`), so that nothing is left behind."""
    for name in ("proc", "dev", "sys"):
        if not os.path.ismount(root / name):
            subprocess.run(["mount", "--rbind", f"/{name}", str(root / name)], check=True)


def environment(machine: str) -> dict[str, str]:
    """For programs in it: the processor that is emulated."""
    return {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "QEMU_CPU": MACHINES[machine][2]}


def main() -> None:
    """Make a root, and say how to get into it."""
    if len(sys.argv) != 3 or sys.argv[1] not in MACHINES:
        sys.exit(f"usage: python3 tools/arm_root.py {'|'.join(MACHINES)} FOLDER")
    root = make(sys.argv[1], Path(sys.argv[2]).absolute())
    print(f"QEMU_CPU={MACHINES[sys.argv[1]][2]} chroot {root} /bin/bash -l")


if __name__ == "__main__":
    main()
