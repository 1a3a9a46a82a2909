"""Make a virtual environment, or say in one line what the system lacks. Usage: python3 tools/environment.py DIRECTORY"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path


def lacking() -> str:
    """What stands in the way, with the command that mends it; empty: nothing."""
    if sys.version_info < (3, 10):
        return f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}; name another: make PYTHON=python3.11"
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        return f"the system lacks the package {package}; install it: sudo apt-get install {package}"
    return ""


def main() -> int:
    """Make the environment where there is none that works."""
    where = Path(sys.argv[1])
    problem = lacking()
    if problem:
        print(f"edgert: {problem}", file=sys.stderr)
        return 3
    python = where / "bin" / "python"
    if python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return 0
    if where.exists():
        shutil.rmtree(where)
    return subprocess.run([sys.executable, "-m", "venv", where], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
