"""A connection to another machine through the system's `ssh`, and the program of ours that answers there.

Strict host keys: an unknown or changed key ends it, nothing is accepted on the way. A password is asked for by `ssh` itself, once, where
there is a terminal; edgert never sees or stores one. One connection serves all commands (`ControlMaster`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import (
    ConnectionLost,
    EdgertError,
    HashMismatch,
    HostKeyRefused,
    HostUnreachable,
    LoginRefused,
    NoSpace,
    PythonUnfit,
    RecordError,
    RemoteError,
)
from . import receiver

CONNECT_S = 20
ANSWER_S = 120.0  # for an answer that takes no work there
TAIL_BYTES = 4000
AGAIN = "type the command again: it goes on where it was"
STRICT = ("StrictHostKeyChecking=yes", "VerifyHostKeyDNS=no", f"ConnectTimeout={CONNECT_S}",
          "ServerAliveInterval=10", "ServerAliveCountMax=3",
          "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "LogLevel=ERROR", "EscapeChar=none", "Compression=no")
BOOT = """import os
f = open(0, "rb", 0, closefd=False)
n, s = int(f.readline()), b""
while len(s) < n:
    c = f.read(n - len(s))
    if not c: raise SystemExit(9)
    s += c
exec(compile(s, "edgert-receiver", "exec"))
"""


@dataclass(frozen=True)
class Target:
    """Where to: `user@host` or a name of ssh's configuration, port (0: ssh's own), key file, further `-o` options (ours come first)."""

    host: str
    port: int = 0
    identity: Path | None = None
    options: tuple[str, ...] = ()
    folder: str = "~/edgert"

    def flags(self) -> str:
        """The flags that would name it again, for a message."""
        port = f" --port {self.port}" if self.port else ""
        return f"{self.host}{port}"

    def by_hand(self, *command: str) -> str:
        """The ssh command that a person would type."""
        return " ".join(["ssh", *(["-p", str(self.port)] if self.port else []), self.host, *command])


@dataclass
class Link:
    """An open connection; a context manager. Raises the errors of `RemoteError` on entering."""

    target: Target
    folder: str = field(default="", init=False)
    _program: bytes = field(default=b"", init=False, repr=False)

    def __enter__(self) -> Link:
        if self.target.host.startswith("-") or not self.target.host:
            raise RemoteError(f"{self.target.host!r} is no USER@HOST", "name it like pi@raspberrypi.local")
        if shutil.which("ssh") is None:
            raise RemoteError("there is no ssh on this computer", "sudo apt install openssh-client")
        self._program = Path(receiver.__file__).read_bytes()
        self.folder = tempfile.mkdtemp(prefix="edgert-ssh-")
        try:
            with tempfile.TemporaryFile(dir=self.folder) as said:  # a file: the connection that stays behind would keep a pipe open
                code = subprocess.run([*self._command(), "-M", "-N", "-f", self.target.host], stdout=subprocess.DEVNULL, stderr=said,
                                      check=False).returncode
                said.seek(0)
                if code:
                    raise fault(self.target, said.read().decode(errors="replace"), open_already=False)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._command(), "-O", "exit", self.target.host], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> list[str]:
        terminal = sys.stdin is not None and sys.stdin.isatty()
        options = [*STRICT, *([] if terminal else ["BatchMode=yes"]), *self.target.options]
        return ["ssh", "-T", "-S", f"{self.folder}/s", *(part for option in options for part in ("-o", option)),
                *(["-p", str(self.target.port)] if self.target.port else []),
                *(["-i", str(self.target.identity)] if self.target.identity else [])]

    def ask(self, verb: str, sudo: bool = False, through: bool = False, **request: Any) -> Session:
        """Start our program there with a request. `through`: what it prints beside its answers goes to our stdout and stderr."""
        there = ["bash", "-lc", "exec python3 -c " + shlex.quote(BOOT)]
        if sudo:
            there = ["sudo", "-n", *there]
        process = subprocess.Popen([*self._command(), self.target.host, shlex.join(there)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True)
        session = Session(self.target, process, through)
        body = json.dumps({"verb": verb, **request}).encode()
        session.send(b"%d\n" % len(self._program) + self._program + b"%d\n" % len(body) + body)
        return session


class Session:
    """One request under way."""

    def __init__(self, target: Target, process: subprocess.Popen[bytes], through: bool) -> None:
        self.target = target
        self.process = process
        self._left = b""
        self._said = b""
        self._reader = threading.Thread(target=self._read_errors, args=(process.stderr, through), daemon=True)
        self._reader.start()

    def _read_errors(self, stream: IO[bytes], through: bool) -> None:
        for line in stream:
            self._said = (self._said + line)[-TAIL_BYTES:]
            if through:
                sys.stderr.write(line.decode(errors="replace"))
                sys.stderr.flush()

    def send(self, data: bytes) -> None:
        """Send bytes. Raises RemoteError where it says why it takes no more, ConnectionLost where the connection ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError:
            while True:  # it may have said why; else the end of what it says raises
                self.answer()

    def answer(self, limit_s: float = ANSWER_S) -> dict[str, Any]:
        """The next answer. Raises RemoteError where it is a refusal, ConnectionLost where none came in time."""
        end = time.monotonic() + limit_s
        while True:
            while b"\n" not in self._left:
                data = self._receive(end - time.monotonic())
                if not data:
                    raise self._ended()
                self._left += data
            line, _, self._left = self._left.partition(b"\n")
            if line.startswith(receiver.PREFIX):
                found: dict[str, Any] = json.loads(line[len(receiver.PREFIX):])
                if "error" in found:
                    raise complaint(self.target, found)
                return found

    def read(self, limit_s: float | None) -> bytes:
        """Some bytes of what follows the last answer, as they come; b"" at the end. Raises ConnectionLost where none came in time.

        None: as long as the connection lives, which ssh watches.
        """
        data, self._left = self._left, b""
        return data or self._receive(limit_s)

    def _receive(self, limit_s: float | None) -> bytes:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], None if limit_s is None else max(limit_s, 0))[0]:
            raise ConnectionLost(f"{self.target.host} did not answer in time", AGAIN)
        return os.read(self.process.stdout.fileno(), 1 << 16)

    def signal(self, letter: bytes) -> None:
        """Pass a signal on, or that something arrived."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(letter)
            self.process.stdin.flush()

    def end(self, limit_s: float = ANSWER_S) -> int:
        """Wait for its end; its exit code. Raises ConnectionLost where the connection ended first."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join(5)
        if code == 255 or code < 0:
            raise self._ended()
        return code

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ended(self) -> RemoteError:
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        return fault(self.target, self._said.decode(errors="replace"), open_already=True)


def fault(target: Target, said: str, open_already: bool) -> RemoteError:
    """What `ssh` or the shell there complained of, as an error with the next command."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("@@")]
    last = lines[-1] if lines else "nothing was said"
    name = target.host.rpartition("@")[2]
    known = f"[{name}]:{target.port}" if target.port and target.port != 22 else name
    if "IDENTIFICATION HAS CHANGED" in said:
        return HostKeyRefused(f"the host key of {known} is not the one known: another machine answers there, or it was installed anew",
                              f"if you know that it was installed anew: ssh-keygen -R '{known}', then {target.by_hand()}")
    if "Host key verification failed" in said or "host key is known" in said:
        return HostKeyRefused(f"the host key of {known} is not known here; expected it in ~/.ssh/known_hosts",
                              f"log in once and compare the fingerprint: {target.by_hand()}")
    if any(words in said for words in ("password is required", "not allowed to execute", "not in the sudoers", "sudo: command not found",
                                     "directory: 'sudo'")):
        return LoginRefused(f"{target.host} does not let this user become root without a password ({last})",
                            "deploy as root, or allow it there: echo \"$USER ALL=(ALL) NOPASSWD: ALL\" | sudo tee /etc/sudoers.d/edgert")
    if "Permission denied (" in said or "Too many authentication failures" in said:
        return LoginRefused(f"{target.host} refused the login ({last}); expected a key that it accepts",
                            f"ssh-copy-id {f'-p {target.port} ' if target.port else ''}{target.host}")
    if "python3: not found" in said or "python3: command not found" in said or "python3: No such file" in said:
        return PythonUnfit(f"{target.host} has no python3; expected Python 3.10 or newer",
                           "install it there: sudo apt install python3 python3-numpy")
    if not open_already:
        return HostUnreachable(f"no ssh answers at {known} ({last})", f"see whether it is on and reachable: {target.by_hand('true')}")
    return ConnectionLost(f"the connection to {target.host} ended ({last})", AGAIN)


def complaint(target: Target, message: dict[str, Any]) -> EdgertError:
    """What our program there refused, as an error with the next command."""
    kind, where = message["error"], f"{target.host}:{target.folder}"
    if kind == "space":
        need = f", {message['need'] / 2**20:.0f} MB are needed" if message["need"] else ""
        return NoSpace(f"the disk of {target.host} has {message['free'] / 2**20:.0f} MB free for {target.folder}{need}",
                       f"make room there: {target.by_hand('df -h')}")
    if kind == "hash":
        found, expected = (f"{message[name][:12]}..." for name in ("found", "expected"))
        return HashMismatch(f"{message['path']} on {target.host} has sha256 {found}, expected {expected}",
                            "type the command again; if it happens again, test that machine's memory and disk")
    if kind == "busy":
        return RemoteError(f"another deployment to {where} is under way", "wait for its end, then type the command again")
    if kind == "no previous":
        return RemoteError(f"{where} has no version before the one in use ({message['current'] or 'none'})", "deploy another version")
    if kind == "altered":
        return HashMismatch(f"version {message['version']} in {where} was altered", "deploy that bundle again")
    if kind == "nothing deployed":
        return RemoteError(f"nothing is deployed in {where}", f"edgert deploy fashion {target.flags()}")
    if kind == "no record":
        there = ", ".join(message["runs"])
        return RecordError(f"there is no such record in {where}/runs; {f'there are {there}' if there else 'there is none at all'}",
                           f"edgert remote run {target.flags()} --duration 10s --record runs/there.db")
    if kind == "record":
        return RecordError(f"the record {message['record']} in {where}/runs cannot be read ({message['reason']})", "run again")
    if kind == "running":
        return RemoteError(f"a run is under way in {where}", "wait for its end, then type the command again")
    if kind == "idle":
        return ConnectionLost(f"{target.host} received nothing for {message['seconds']:g} s", AGAIN)
    reason = message.get("reason", kind)
    if kind == "fault":
        return RemoteError(f"the program of edgert on {target.host} failed ({reason})", "please report it")
    return RemoteError(f"{where}: {reason}", f"see whether it may be written there: {target.by_hand('ls -ld', target.folder)}")
