"""Beside the packages of a PYNQ image, on x86-64 with Python 3.10: nothing of them changes, and edgert and pynq work in one process."""

import shutil
import subprocess
from pathlib import Path

import pytest

import other_machine
import small_bundle
from edgert.board import deploy as deploying

ROOT = Path(__file__).parents[2]
BOTH = """
import pynq, numpy
from pynq import Overlay, allocate, MMIO
from edgert.accelerators import names
import edgert, typer, attrs
print(pynq.__version__, numpy.__version__, edgert.__file__)
assert "numpy" in names()
"""


def python310():
    """An interpreter of Python 3.10."""
    places = [shutil.which("python3.10"), *map(str, sorted(Path.home().glob(".pyenv/versions/3.10*/bin/python3.10"))),
              *map(str, sorted(Path("/usr/local").glob("*/bin/python3.10")))]
    for place in places:
        if place and subprocess.run([place, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0:
            return place
    raise AssertionError("Python 3.10 is needed, as on PYNQ's image: Ubuntu 22.04 has it, pyenv install 3.10 makes it")


@pytest.fixture(scope="module", params=["pynq-3.0", "pynq-3.1"])
def image(request, tmp_path_factory):
    """An environment with the packages of an image; its folder."""
    folder = tmp_path_factory.mktemp(request.param) / "image"
    subprocess.run([python310(), "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
                    Path(__file__).with_name(f"{request.param}.txt")], check=True)
    return folder


def frozen(image):
    return subprocess.check_output([image / "bin" / "pip", "freeze", "--disable-pip-version-check"], text=True)


def contents(image):
    """Every file of its packages and its size; what Python compiles is no change."""
    return {path: path.stat().st_size for path in (image / "lib").rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_deployed_beside_an_images_packages_both_work_and_nothing_of_the_image_changes(image, tmp_path, monkeypatch):
    before, files = frozen(image), contents(image)
    machine = other_machine.StandIn(tmp_path / "home", python=image / "bin")
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    said = []
    done = deploying.deploy(str(small_bundle.make(tmp_path / "toy")), machine.target, said.append, seconds=0)
    levels = {check["name"]: check["level"] for check in done.checks}
    assert levels["golden frames"] == "ok" and "failed" not in levels.values()
    assert any("Python 3.10" in text and "NumPy 1.21.5" in text for text in said), said
    folder = machine.base / "current" / "python"
    both = subprocess.run([image / "bin" / "python3", "-c", BOTH], capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "HOME": str(tmp_path)})
    assert both.returncode == 0, both.stderr
    assert f"{folder}/edgert/__init__.py" in both.stdout
    ran = machine.run("run", "toy", "--best-effort", "--policy", "fifo-gated", "--deadline", "200ms", "--rate", "10", "--duration", "1s")
    assert ran.returncode == 0 and "10 frames" in ran.stdout, ran.stdout + ran.stderr
    assert frozen(image) == before and contents(image) == files


def test_installed_with_pip_into_such_an_environment_pynq_still_works(image):
    """For those who do it all the same: NumPy, pydantic and pynq stay what they were."""
    kept = [line for line in frozen(image).splitlines() if line.lower().startswith(("numpy=", "pynq", "pydantic="))]
    subprocess.run([image / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)], check=True)
    assert [line for line in frozen(image).splitlines() if line.lower().startswith(("numpy=", "pynq", "pydantic="))] == kept
    both = subprocess.run([image / "bin" / "python3", "-c", BOTH], capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/bin:/bin"})
    assert both.returncode == 0, both.stderr


