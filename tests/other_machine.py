"""Another machine for the tests of deployment: a folder of this one behind a stand-in for `ssh`, or behind a real sshd on loopback."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import ssh_stand_in
from edgert.board import receiver
from edgert.board.ssh import Target

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PATIENCE_S = 30.0


class Folder:
    """What a deployment left in the home of the other machine."""

    def __init__(self, home: Path, python: Path | None = None) -> None:
        self.home = home
        self.base = home / "edgert"
        home.mkdir(parents=True, exist_ok=True)
        # A board's Python is put on PATH by a login script, and login scripts print.
        python = python or Path(sys.executable).parent
        (home / ".bash_profile").write_text(f'export PATH="{python}:$PATH"\necho "welcome {{}}"\n')

    def link(self, name: str) -> str:
        """Version that `current` or `previous` leads to."""
        return receiver.linked(str(self.base / name))

    def versions(self) -> list[str]:
        """Names of the versions that can be seen."""
        folder = self.base / "versions"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def assert_whole(self) -> None:
        """No half version can be seen: each one there has every file, byte for byte, and `current` leads to one."""
        for name in self.versions():
            assert receiver.intact(str(self.base / "versions" / name)), name
        for name in ("current", "previous"):
            if os.path.lexists(self.base / name):
                assert self.link(name) in self.versions()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`edgert` of the version in use, as a person there would run it."""
        return subprocess.run(["bash", "-lc", 'exec edgert/current/edgert "$@"', "bash", *arguments], cwd=self.home, capture_output=True,
                              text=True, check=False, env={"HOME": str(self.home), "PATH": "/usr/bin:/bin"})


class StandIn(Folder):
    """Behind the stand-in. Use its `environment`."""

    def __init__(self, home: Path, python: Path | None = None) -> None:
        super().__init__(home, python)
        program = home.with_name(home.name + "-bin") / "ssh"
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\n" + Path(ssh_stand_in.__file__).read_text())
        program.chmod(0o755)
        self.environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "STANDIN_HOME": str(home)}
        self.target = Target("me@machine")
        self.plan()

    def plan(self, **plan: object) -> None:
        """What happens to the next connections; counts from here."""
        (self.home / "plan.json").write_text(json.dumps(plan))
        (self.home / "bytes").write_text("0")

    def cut(self, at: int, kill: bool = False) -> None:
        """End the connection after so many bytes."""
        self.plan(cut=at, kill=kill)

    def counted(self) -> int:
        """Bytes since the last plan."""
        return int((self.home / "bytes").read_text())

    def close(self) -> None:
        """Nothing runs."""


class Loopback(Folder):
    """Behind a real sshd, through a proxy that can cut. `settings` are further lines of its configuration."""

    def __init__(self, home: Path, settings: str = "", python: Path | None = None, keys: Path | None = None) -> None:
        super().__init__(home, python)
        keys = keys or home.with_name(home.name + "-keys")
        keys.mkdir()
        for name in ("host", "user", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        (keys / "config").write_text(
            f"Port {self._port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/user.pub\nStrictModes no\n"
            f"PidFile none\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
            + (settings or f"SetEnv HOME={home}\n"))
        assert SSHD is not None, "openssh-server is needed"
        self._log = open(keys / "log", "w")  # noqa: SIM115  as long as sshd
        self._sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", str(keys / "config")], stderr=self._log)
        self.proxy = Proxy(self._port)
        self.keys, self.environment = keys, {}
        public = (keys / "host.pub").read_text().split()
        self.known = keys / "known_hosts"
        self.known.write_text(f"[127.0.0.1]:{self.proxy.port} {public[0]} {public[1]}\n")
        self.target = self.named()
        end = time.monotonic() + PATIENCE_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    break
            assert time.monotonic() < end and self._sshd.poll() is None, (keys / "log").read_text()
            time.sleep(0.05)

    def named(self, identity: str = "user", known: Path | None = None, folder: str = "~/edgert") -> Target:
        """The machine, logged in to with one of the keys, known from one of the files."""
        options = (f"UserKnownHostsFile={known or self.known}", "GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes",
                   "IdentityAgent=none")
        return Target(f"{getpass.getuser()}@127.0.0.1", self.proxy.port, self.keys / identity, options, folder)

    def plan(self) -> None:
        """Cut nothing; counts from here."""
        self.proxy.cut(None)

    def cut(self, at: int, kill: bool = False) -> None:
        """End the connection after so many bytes."""
        self.proxy.cut(at)

    def counted(self) -> int:
        """Bytes since the last plan."""
        return self.proxy.count

    def close(self) -> None:
        """End sshd and the proxy."""
        self.proxy.close()
        self._sshd.terminate()
        self._sshd.wait()
        self._log.close()


class Proxy:
    """Passes connections on to a port of this machine, and resets them after so many bytes, both ways together."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._lock = threading.Lock()
        self.cut(None)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, at: int | None) -> None:
        with self._lock:
            self.count, self._at = 0, at

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 14):
                with self._lock:
                    room = None if self._at is None else max(0, self._at - self.count)
                    self.count += len(data) if room is None else min(room, len(data))
                sink.sendall(data[:room])
                if room is not None and room < len(data):
                    for end in (source, sink):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._server.close()


def wheel(folder: Path, name: str = "dummy", tag: str = "py3-none-any", **files: str) -> Path:
    """A wheel with these files (`__` in a name is a slash); for `--wheels`, so that no test asks an index."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {f"{name}.py": "", **{key.replace("__", "/"): text for key, text in files.items()}}.items():
            archive.writestr(file, text)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path

