"""Steps that are done once: a folder of `.npz` checkpoints, and progress on a terminal."""

import hashlib
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np


class Work:
    """Checkpoints of a recipe's steps.

    A step's result, a flat dict of arrays, is kept as `<name>-<hash>.npz`; the hash covers everything given as `key` (settings,
    seed, fingerprint of the data, results before it), so a killed run resumes and a changed setting starts afresh.
    """

    def __init__(self, folder, fingerprint, progress=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fingerprint = fingerprint
        self.progress = progress or (lambda message: None)

    def path(self, name, key):
        """Where the step's result is kept."""
        text = json.dumps([self.fingerprint, name, key], sort_keys=True, default=repr)
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"

    def step(self, name, key, make):
        """The step's result: read if it is there, else made by `make(say)` and written (whole or not at all)."""
        path = self.path(name, key)
        if path.exists():
            with np.load(path, allow_pickle=False) as stored:
                self.progress(f"{name}: kept from before")
                return {k: stored[k] for k in stored.files}
        self.progress(f"{name}: begins")
        result = {k: np.asarray(v) for k, v in make(lambda message: self.progress(f"{name}: {message}")).items()}
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            np.savez(file, **result)
        part.replace(path)
        return result


def fingerprint(*arrays):
    """sha256 (hex, 16 digits) of the arrays' shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def shown(progress):
    """The caller's progress callback, or a status line if stderr is a terminal, or nothing."""
    if progress is not None or not sys.stderr.isatty():
        yield progress
        return
    from rich.console import Console

    with Console(stderr=True).status("training") as status:
        yield status.update
