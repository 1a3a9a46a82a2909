"""Compiles the scheduler's inner loop from its own source with mypyc where EDGERT_COMPILE=1 is set; plain Python otherwise.

    EDGERT_COMPILE=1 pip install .          # needs a C compiler; results are the same bit for bit, in about half the time

Everything else about the distribution is in `pyproject.toml`.
"""

import os
from pathlib import Path

from setuptools import setup

# No policy is among them: policies stay plain classes, which anyone may subclass, watch and copy; what they compute with is compiled.
HOT = ("durations", "model", "resources", "outlook", "refinement", "guest", "engine", "worlds", "simulator",
       "policies/_steps", "policies/_predict", "policies/_plans")

if os.environ.get("EDGERT_COMPILE") == "1":
    try:
        from mypyc.build import mypycify
    except ImportError:  # asked what the build needs
        setup(setup_requires=["mypy==2.4.1", "numpy"])
    else:
        root = Path(__file__).parent
        os.environ["MYPYPATH"] = str(root / "scheduler")
        setup(ext_modules=mypycify([f"scheduler/imprecise/{name}.py" for name in HOT]))
else:
    setup()
