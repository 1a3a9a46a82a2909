"""`edgert deploy`: a new version beside the old one on another machine, tried there, then switched to in one step.

1. look at the machine: processor, Python, NumPy, room;       2. make the files for it (`package.py`);
3. send what it lacks; a cut is resumed from where it was;    4. there: every sha256 again, load, golden frames (`board selftest`);
5. rename into `versions`, switch `current`, try it from there, or switch back.
A version is in `versions` only when it is whole and has passed, so a cut at any byte leaves what was there before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import Bundle, load
from ..errors import DeployRefused, HashMismatch, LoginRefused, RemoteError
from . import package
from .ssh import Link, Session, Target, fault

WAIT_S = 90.0  # longer than the program there waits for a connection that was cut
TRIAL_S = 900.0  # a first start on a slow board compiles every module
TRIES = 2  # sendings of a file whose hash is wrong at the end
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Deployed:
    """What is in use now, and was before; whether it was there already; bytes sent; the trial's checks."""

    host: str
    version: str
    before: str
    there: bool
    sent_bytes: int
    checks: list[dict[str, Any]]


def look(link: Link) -> dict[str, Any]:
    """What the machine is: the answer to `probe` of receiver.py."""
    with link.ask("probe", base=link.target.folder) as session:
        found = session.answer()
        session.end()
    return found


def needs_root(facts: dict[str, Any], asked: bool | None) -> bool:
    """Whether commands run there as root: as asked, else on a board whose FPGA only root may touch."""
    if facts["uid"] == 0:
        return False
    return bool(facts["fpga"] and facts["pynq"]) if asked is None else asked


def deploy(name: str, target: Target, say: Callable[[str], None], sudo: bool | None = None, tflite: bool = True,
           wheels: Path | None = None, accelerator: str = "auto", seconds: float = 2.0) -> Deployed:
    """Deploy a bundle; its throughput is tried for `seconds`.

    Raises UsageError, BundleError before anything is sent; RemoteError where it did not come to the switch.
    """
    bundle = load(name)
    with Link(target) as link:
        facts = look(link)
        machine = package.kind_of(facts, target.host)
        say(f"{target.host}: {facts['board'] or machine}, Python {'.'.join(map(str, facts['python']))}, NumPy {facts['numpy']}, "
            f"in use: {facts['current'] or 'nothing'}")
        made = package.make(bundle, machine, facts, tflite, wheels)
        for note in made.notes:
            say(note)
        return _send(link, made, bundle, facts, needs_root(facts, sudo),
                     ["--accelerator", accelerator, "--seconds", f"{seconds:g}"], say)


def _send(link: Link, made: package.Package, bundle: Bundle, facts: dict[str, Any], sudo: bool, trial: list[str],
          say: Callable[[str], None]) -> Deployed:
    contents = {file.sha256: file.content for file in made.files}
    files = [(file.path, file.sha256, len(file.content), file.executable) for file in made.files]
    trial = ["board", "selftest", "--json", "--bundle", bundle.name, *trial]
    with link.ask("deploy", base=facts["base"], version=made.name, files=files, trial=trial, check=["--version"], root=sudo, wait_s=WAIT_S,
                  trial_s=TRIAL_S) as session:
        sent, there = _transfer(session, contents, say)
        found = session.answer(TRIAL_S + WAIT_S)["trial"]
        checks = _judge(link.target, made.name, found)
        say(f"{made.name} passed its self-test there: {sum(check['level'] != 'failed' for check in checks)} checks")
        answer = session.answer(TRIAL_S + WAIT_S)
        if "trial" in answer:
            raise DeployRefused(f"{made.name} does not start once it is in use ({_last(answer['trial'])}); in use again: "
                                f"{facts['current'] or 'nothing'}",
                                link.target.by_hand(f"{facts['base']}/versions/{made.name}/edgert doctor"))
        session.end()
    return Deployed(link.target.host, answer["switched"], answer["before"], there, sent, checks)


def _transfer(session: Session, contents: dict[str, bytes], say: Callable[[str], None]) -> tuple[int, bool]:
    """Send what is lacking until all of it arrived whole; bytes sent, and whether the version was there already."""
    sent = 0
    for _ in range(TRIES):
        answer = session.answer(WAIT_S + TRIAL_S)
        if answer.get("there"):
            say(f"{answer['place']} is there already, every hash is right")
            return sent, True
        lacking = sum(len(contents[sha]) - have for sha, have in answer["need"])
        begun = sum(have > 0 for _, have in answer["need"])
        say(f"sending {lacking / 2**20:.1f} MB of {sum(map(len, contents.values())) / 2**20:.1f} MB" + (", going on" if begun else ""))
        for sha, have in answer["need"]:
            data = memoryview(contents[sha])[have:]
            for start in range(0, len(data), _CHUNK):
                session.send(bytes(data[start:start + _CHUNK]))
                sent += len(data[start:start + _CHUNK])
        answer = session.answer(TRIAL_S)
        if answer.get("received"):
            return sent, False
        say(f"{len(answer['wrong'])} files arrived altered, sending them again")
    raise HashMismatch(f"{len(answer['wrong'])} files arrived altered {TRIES} times on {session.target.host}; expected sha256 "
                       f"{answer['wrong'][0][:12]}...", "test that machine's memory, disk and network, then type the command again")


def _judge(target: Target, version: str, trial: dict[str, Any]) -> list[dict[str, Any]]:
    """The checks of a trial that passed. Raises DeployRefused with what failed."""
    try:
        checks: list[dict[str, Any]] = json.loads(trial["out"].splitlines()[-1])["checks"]  # before it, what login scripts print
    except (ValueError, KeyError, IndexError, TypeError):
        checks = []
    if trial["code"] == 0 and checks:
        return checks
    refused = fault(target, trial["err"], open_already=True)
    if isinstance(refused, LoginRefused):
        raise refused  # not let become root
    failed = [f"{check['name']}: {check['found']}" for check in checks if check["level"] == "failed"] or [_last(trial)]
    fixes = [check["fix"] for check in checks if check["level"] == "failed" and check["fix"]]
    raise DeployRefused(f"{version} does not pass its self-test on {target.host} ({'; '.join(failed)}); what was in use there still is",
                        fixes[0] if fixes else f"see {target.by_hand(f'{target.folder}/incoming/stage/edgert board selftest')}")


def _last(trial: dict[str, Any]) -> str:
    lines = [line for line in trial["err"].splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {trial['code']}"


def rollback(target: Target, say: Callable[[str], None], sudo: bool | None = None) -> Deployed:
    """Go back to the version before the one in use. Raises RemoteError where there is none, or it was altered."""
    with Link(target) as link:
        facts = look(link)
        if not facts["current"]:
            raise RemoteError(f"nothing is deployed in {target.host}:{target.folder}", f"edgert deploy fashion {target.flags()}")
        with link.ask("rollback", base=facts["base"], check=["--version"], root=needs_root(facts, sudo), wait_s=WAIT_S,
                      trial_s=TRIAL_S) as session:
            answer = session.answer(TRIAL_S + WAIT_S)
            if "trial" in answer:
                raise DeployRefused(f"{facts['previous']} does not start ({_last(answer['trial'])}); in use again: {facts['current']}",
                                    "deploy that bundle again")
            session.end()
    say(f"{target.host}: in use again: {answer['switched']}")
    return Deployed(target.host, answer["switched"], answer["before"], True, 0, [])
