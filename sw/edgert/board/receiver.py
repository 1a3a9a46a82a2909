"""What runs on the other machine: looks at it, takes files, tries a version, switches to it, runs it, gives a record back.

Sent as text through the connection and executed by the `python3` that is there. So: standard library only, the syntax of Python 3.6,
nothing imported from edgert. A request comes on stdin, its size, then JSON, perhaps followed by bytes; each answer is a line that begins
with `#edgert `, then JSON (what a login script prints is none). The folder on the other machine:

    versions/NAME/   complete and checked, never changed again; FILES holds the sha256 of each file
    current          symbolic link to the version in use, replaced in one step
    previous         symbolic link to the one before it
    incoming/        what is being received: a file by its sha256, `.part` while it grows; `stage`: a version being put together
    runs/            run records that have not been fetched
    lock             held by a deployment
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import platform
import select
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    Request = dict[str, Any]
    Files = list[tuple[str, str, int, bool]]  # path, sha256, size, executable
    Need = list[tuple[str, int]]  # sha256, bytes that are there

PREFIX = b"#edgert "
CHUNK = 1 << 16
IDLE_S = 60.0  # nothing arrives for so long: the other side is gone
SPARE_BYTES = 32 << 20  # left free beside the files: compiled modules, records


class Refused(Exception):
    """What was asked for cannot be done; `kind` and the details are for the other side to put in words."""

    def __init__(self, kind: str, **details: Any) -> None:
        super().__init__(kind)
        self.message = dict(details, error=kind)


def say(**message: Any) -> None:
    """Answer a line."""
    sys.stdout.buffer.write(PREFIX + json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def pull(size: int) -> bytes:
    """Up to `size` bytes of stdin; ends this program where the other side is gone."""
    if not select.select([0], [], [], IDLE_S)[0]:
        raise Refused("idle", seconds=IDLE_S)
    data = os.read(0, min(size, CHUNK))
    if not data:
        raise SystemExit(9)
    return data


def append(path: str, size: int) -> None:
    """Add `size` bytes of stdin to a file, made where there is none."""
    with open(path, "ab") as file:
        while size:
            data = pull(size)
            file.write(data)
            size -= len(data)


def digest(path: str) -> str:
    """Sha256 of a file."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            state.update(chunk)
    return state.hexdigest()


def sync(path: str) -> None:
    """Have the disk hold a file, or the entries of a directory."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def link(target: str, path: str) -> None:
    """Make `path` a symbolic link to `target`, in one step, whatever was there."""
    fresh = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    os.symlink(target, fresh)
    os.replace(fresh, path)
    sync(os.path.dirname(path))


def linked(path: str) -> str:
    """Name of the version that a link leads to; "" where there is none."""
    try:
        name = os.path.basename(os.readlink(path))
    except OSError:
        return ""
    return name if os.path.isdir(path) else ""


# Looking ----------------------------------------------------------------------------------------------------------------


def text(path: str) -> str:
    """Content of a short file; "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def free_bytes(path: str) -> int:
    """Room for this user on the disk that holds `path`, or will hold it."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def probe(request: "Request") -> None:
    """Say what this machine is."""
    base = os.path.abspath(os.path.expanduser(request["base"]))
    numpy, fault = "", ""
    try:
        numpy = str(__import__("numpy").__version__)
    except ImportError as error:
        fault = (str(error).strip().splitlines() or ["?"])[0]
    versions = os.path.join(base, "versions")
    say(machine=platform.machine(), bits=struct.calcsize("P") * 8, python=list(sys.version_info[:3]), executable=sys.executable,
        implementation=platform.python_implementation(), glibc=platform.libc_ver()[1], numpy=numpy, numpy_fault=fault, uid=os.getuid(),
        base=base, board=text("/proc/device-tree/model"),
        fpga=bool(glob.glob("/sys/class/fpga_manager/*")), pynq=importlib.util.find_spec("pynq") is not None, free=free_bytes(base),
        versions=sorted(os.listdir(versions)) if os.path.isdir(versions) else [], current=linked(os.path.join(base, "current")),
        previous=linked(os.path.join(base, "previous")))


# Taking files -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(base: str, wait_s: float) -> "Iterator[None]":
    """Only one deployment at a time; one whose connection was cut ends by itself, so this waits for it a while."""
    with open(os.path.join(base, "lock"), "a") as file:
        end = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise Refused("busy", seconds=wait_s) from None
                time.sleep(0.2)
        yield


def listing(files: "Files") -> str:
    """What FILES of a version holds."""
    return "".join(f"{sha} {path}\n" for path, sha, _, _ in files)


def intact(folder: str) -> bool:
    """Whether a version's files are those that FILES names, byte for byte."""
    try:
        with open(os.path.join(folder, "FILES")) as file:
            entries = [line.rstrip("\n").split(" ", 1) for line in file]
        return bool(entries) and all(digest(os.path.join(folder, path)) == sha for sha, path in entries)
    except (OSError, ValueError):
        return False


def known_files(base: str) -> "dict[str, str]":
    """Files of the versions that are there, by sha256: what has not changed is not sent again."""
    found = {}  # type: dict[str, str]
    for name in glob.glob(os.path.join(base, "versions", "*", "FILES")):
        with open(name) as file:
            for line in file:
                sha, _, path = line.rstrip("\n").partition(" ")
                found[sha] = os.path.join(os.path.dirname(name), path)
    return found


def lacking(base: str, sizes: "dict[str, int]") -> "Need":
    """Each wanted file that is not here, with the number of its first bytes that are; copies what another version has."""
    incoming = os.path.join(base, "incoming")
    known = known_files(base)
    need = []  # type: Need
    for sha, size in sorted(sizes.items()):
        whole = os.path.join(incoming, sha)
        if os.path.isfile(whole) and os.path.getsize(whole) == size:
            continue  # its hash was right when it was named so, and is checked again when the version is put together
        if sha in known and os.path.isfile(known[sha]) and digest(known[sha]) == sha:
            shutil.copyfile(known[sha], whole + ".copy")
            os.replace(whole + ".copy", whole)
            continue
        part = whole + ".part"
        have = os.path.getsize(part) if os.path.isfile(part) else 0
        if have > size:
            os.unlink(part)
            have = 0
        need.append((sha, have))
    return need


def receive(base: str, need: "Need", sizes: "dict[str, int]") -> "list[str]":
    """Take the bytes that are lacking, in order; the files whose hash was wrong in the end, which are thrown away."""
    wrong = []  # type: list[str]
    for sha, have in need:
        whole = os.path.join(base, "incoming", sha)
        append(whole + ".part", sizes[sha] - have)
        if digest(whole + ".part") == sha:
            os.replace(whole + ".part", whole)
        else:
            os.unlink(whole + ".part")
            wrong.append(sha)
    return wrong


def put_together(base: str, files: "Files") -> str:
    """The received files in their places under `incoming/stage`, read again and checked; that folder."""
    incoming = os.path.join(base, "incoming")
    stage = os.path.join(incoming, "stage")
    shutil.rmtree(stage, ignore_errors=True)
    folders = {stage}
    for path, sha, _, executable in files:
        target = os.path.join(stage, path)
        folders.add(os.path.dirname(target))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.join(incoming, sha), target)
        os.chmod(target, 0o755 if executable else 0o644)
        if digest(target) != sha:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(incoming, sha))
            raise Refused("hash", path=path, expected=sha, found=digest(target))
    with open(os.path.join(stage, "FILES"), "w") as file:
        file.write(listing(files))
    os.sync()
    return stage


def deploy(request: "Request") -> None:
    """Take a version, try it, switch to it; switch back where it does not work."""
    base, files = request["base"], request["files"]
    for folder in ("versions", "incoming", "runs"):
        os.makedirs(os.path.join(base, folder), exist_ok=True)
    with locked(base, request["wait_s"]):
        place = existing(base, request["version"], files)
        if place:
            say(need=[], place=os.path.basename(place), there=True)
        else:
            place = stage(base, files)
        outcome = attempt(place, request["trial"], request)
        say(trial=outcome)
        if outcome["code"]:
            raise Refused("trial")
        if os.path.basename(os.path.dirname(place)) != "versions":
            fresh = os.path.join(base, "versions", free_name(base, request["version"]))
            os.rename(place, fresh)
            sync(os.path.dirname(fresh))
            place = fresh
        old = linked(os.path.join(base, "current"))
        switch(base, os.path.basename(place), request)
        prune(base)
        say(switched=os.path.basename(place), before=old)


def existing(base: str, version: str, files: "Files") -> str:
    """The folder of this very version, if it is there and intact."""
    for name in sorted(glob.glob(os.path.join(base, "versions", glob.escape(version) + "*"))):
        try:
            with open(os.path.join(name, "FILES")) as file:
                same = file.read() == listing(files)
        except OSError:
            continue
        if same and intact(name):
            return name
    return ""


def free_name(base: str, version: str) -> str:
    """`version`, or with a number where a damaged one has that name."""
    taken = os.listdir(os.path.join(base, "versions"))
    return next(name for name in (version, *(f"{version}.{n}" for n in range(2, len(taken) + 3))) if name not in taken)


def stage(base: str, files: "Files") -> str:
    """Receive what is lacking and put it together; the folder."""
    sizes = {sha: size for _, sha, size, _ in files}
    need = lacking(base, sizes)
    room = sum(size for _, _, size, _ in files) + sum(sizes[sha] - have for sha, have in need) + SPARE_BYTES
    free = free_bytes(base)
    if room > free:
        raise Refused("space", free=free, need=room)
    while True:
        say(need=need)
        wrong = receive(base, need, sizes)
        if not wrong:
            say(received=True)
            return put_together(base, files)
        say(wrong=wrong)  # the other side sends them again, or gives up
        need = [(sha, 0) for sha in wrong]


def attempt(place: str, arguments: "list[str]", request: "Request") -> "dict[str, Any]":
    """Run `place/edgert ARGUMENTS`; its exit code, stdout and the end of its stderr."""
    command = [os.path.join(place, "edgert"), *arguments]
    if request["root"]:
        command = ["sudo", "-n", "bash", "-lc", "exec " + " ".join(map(shlex.quote, command))]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,  # noqa: UP022
                              timeout=request["trial_s"], check=False)
    except subprocess.TimeoutExpired:
        return {"code": 124, "out": "", "err": f"it did not end within {request['trial_s']:g} s"}
    except OSError as error:
        return {"code": 126, "out": "", "err": str(error)}
    out, err = (part.decode(errors="replace") for part in (done.stdout, done.stderr))
    return {"code": done.returncode, "out": out[-CHUNK:], "err": err[-2000:]}


def switch(base: str, name: str, request: "Request") -> None:
    """Make version `name` the one in use and try it from there; where it fails, what was in use before is in use again."""
    current, previous = os.path.join(base, "current"), os.path.join(base, "previous")
    old, older = linked(current), linked(previous)
    if old != name:
        if old:
            link(os.path.join("versions", old), previous)
        link(os.path.join("versions", name), current)
    outcome = attempt(current, request["check"], request)
    if not outcome["code"]:
        return
    if old and old != name:
        link(os.path.join("versions", old), current)
        if older:
            link(os.path.join("versions", older), previous)
    elif not old:
        os.unlink(current)
    say(trial=outcome)
    raise Refused("switch", before=old)


def prune(base: str) -> None:
    """Remove what neither link leads to and no run uses, and what was received for versions that are complete now."""
    keep = {linked(os.path.join(base, name)) for name in ("current", "previous")}
    for name in os.listdir(os.path.join(base, "versions")):
        folder = os.path.join(base, "versions", name)
        if name not in keep and not in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(os.path.join(base, "incoming"), ignore_errors=True)


def in_use(folder: str) -> bool:
    """Whether a run holds this version."""
    try:
        with open(os.path.join(folder, "FILES")) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def rollback(request: "Request") -> None:
    """Go back to the version before this one; the two change places."""
    base = request["base"]
    current, previous = os.path.join(base, "current"), os.path.join(base, "previous")
    old, older = linked(current), linked(previous)
    if not older or older == old:
        raise Refused("no previous", current=old)
    with locked(base, request["wait_s"]):
        if not intact(os.path.join(base, "versions", older)):
            raise Refused("altered", version=older)
        switch(base, older, request)
    say(switched=older, before=old)


# Running ----------------------------------------------------------------------------------------------------------------


def run(request: "Request") -> None:
    """Run the version in use with its output on ours. `I`, `T`, `K` on stdin interrupt, end, kill it; the end of stdin hangs it up.

    Exits as it does. Its record, and an earlier one that it is to be like, are in `runs`.
    """
    base = request["base"]
    name = linked(os.path.join(base, "current"))
    if not name:
        raise Refused("nothing deployed", base=base)
    folder = os.path.join(base, "versions", name)
    os.makedirs(os.path.join(base, "runs"), exist_ok=True)
    command = [os.path.join(folder, "edgert"), "run", text(os.path.join(folder, "BUNDLE")), *request["arguments"]]
    if request["like"]:
        like = os.path.join(base, "runs", request["record"] + ".like")
        append(like, request["like"])
        command += ["--like", like]
    if request["record"]:
        command += ["--record", os.path.join(base, "runs", request["record"])]
    with open(os.path.join(folder, "FILES")) as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        say(started=name)
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        code = attend(child)
    if request["like"]:
        os.unlink(like)
    raise SystemExit(code if code >= 0 else 128 - code)


def attend(child: "subprocess.Popen[bytes]") -> int:
    """Pass signals on until the child ends; its exit code."""
    signals = {b"I": signal.SIGINT, b"T": signal.SIGTERM, b"K": signal.SIGKILL}
    hung_up = None  # type: float | None
    while child.poll() is None:
        if hung_up is not None:
            if time.monotonic() > hung_up + IDLE_S:
                child.kill()
            time.sleep(0.1)
        elif select.select([0], [], [], 0.1)[0]:
            letter = os.read(0, 1)
            if letter in signals:
                child.send_signal(signals[letter])
            elif not letter:
                child.send_signal(signal.SIGHUP)
                hung_up = time.monotonic()
    return child.returncode


def fetch(request: "Request") -> None:
    """Give a record back as one file, whatever the state that its run left it in; `D` on stdin: it arrived, and can be removed."""
    runs = os.path.join(request["base"], "runs")
    if any(in_use(folder) for folder in glob.glob(os.path.join(request["base"], "versions", "*"))):
        raise Refused("running")  # its record would be taken from it
    names = sorted(glob.glob(os.path.join(runs, "*.db")), key=os.path.getmtime)
    path = os.path.join(runs, request["record"]) if request["record"] else (names or [""])[-1]
    if not os.path.isfile(path):
        raise Refused("no record", runs=[os.path.basename(name) for name in names])
    copy = path + ".out"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(copy)
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    try:
        source.backup(target)
    except sqlite3.Error as error:
        raise Refused("record", record=os.path.basename(path), reason=str(error)) from None
    finally:
        source.close()
        target.close()
    say(record=os.path.basename(path), size=os.path.getsize(copy), sha256=digest(copy))
    with open(copy, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    os.unlink(copy)
    if os.read(0, 1) == b"D":
        for name in glob.glob(glob.escape(path) + "*"):
            os.unlink(name)


VERBS = {"probe": probe, "deploy": deploy, "rollback": rollback, "run": run, "fetch": fetch}


def main() -> None:
    """Serve one request: a line with its size, then the request as JSON."""
    size, body = b"", b""
    while not size.endswith(b"\n"):
        size += pull(1)
    while len(body) < int(size):
        body += pull(int(size) - len(body))
    request = json.loads(body.decode())
    try:
        VERBS[request["verb"]](request)
    except Refused as error:
        say(**error.message)
    except BrokenPipeError:
        raise SystemExit(9) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        say(error="space" if full else "system", reason=str(error), free=free_bytes(request["base"]) if full else 0, need=0)
    except Exception as error:  # a fault of this program: said, not only printed
        say(error="fault", reason=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
