"""How long `import edgert` and `edgert --help` take, beside an empty interpreter. Usage: python tests/bench/import_time.py"""

import statistics
import subprocess
import sys
import time

CASES = {"import edgert": "import edgert", "import imprecise.engine": "import imprecise.engine",
         "import edgert.cli": "import edgert.cli",
         "edgert --help": "import sys; sys.argv = ['edgert', '--help']\nfrom edgert.cli import main\nmain()"}


def wall_ms(code: str, runs: int = 15) -> list[float]:
    """Wall times of fresh interpreters, in ms, sorted."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)


def main() -> None:
    """Print median, minimum and the difference to the empty interpreter."""
    empty = statistics.median(wall_ms("pass"))
    print(f"{'case':26} {'median ms':>10} {'min ms':>8} {'above empty':>12}   (15 runs each)")
    for name, code in CASES.items():
        times = wall_ms(code)
        print(f"{name:26} {statistics.median(times):10.1f} {times[0]:8.1f} {statistics.median(times) - empty:12.1f}")


if __name__ == "__main__":
    main()
