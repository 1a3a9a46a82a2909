"""Kinds of cells for tests of `edgert.sweep`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(params, inputs, needs):
    """x^2, and a line in a file for each call."""
    if "calls" in params:
        with open(params["calls"], "a") as file:
            file.write(f"{params['x']}\n")
    if "sleep" in params:
        time.sleep(params["sleep"])
    return {"y": params["x"] ** 2, "third": params["x"] / 3}


def add(params, inputs, needs):
    """The sum of the needs' y and of an input."""
    return {"y": sum(value["y"] for value in needs.values()) + sum(inputs.get("numbers", ()))}


def fail(params, inputs, needs):
    """Raises while a file is not there."""
    if not Path(params["unless"]).exists():
        raise ValueError("no such\nluck")
    return {"y": 1}


def no_json(params, inputs, needs):
    """Gives what JSON cannot hold."""
    return {"y": float("nan")}


def die(params, inputs, needs):
    """Kills its process."""
    os.kill(os.getpid(), signal.SIGKILL)
