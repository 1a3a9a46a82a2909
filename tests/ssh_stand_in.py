"""Stands in for `ssh` where the other machine is a folder of this one: runs the command in a shell there, and fails as it is told.

`plan.json` in STANDIN_HOME: `cut`: after so many bytes, both ways together, the connection ends (`kill`: and what runs there dies with
it, as when the power goes); `flip`: that byte on the way there arrives with one bit wrong; `refuse`: what ssh would say instead.
`bytes` in that folder counts what went through.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path


def main():
    home = Path(os.environ["STANDIN_HOME"])
    plan = json.loads((home / "plan.json").read_text())
    arguments = sys.argv[1:]
    if plan.get("refuse"):
        print(plan["refuse"], file=sys.stderr)
        return 255
    if "-O" in arguments or "-N" in arguments:
        return 0
    environment = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    child = subprocess.Popen(["bash", "-c", arguments[-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=home,
                             start_new_session=True)
    back, counter = child.stdout.fileno(), home / "bytes"
    count = int(counter.read_text())
    cut, flip = plan.get("cut"), plan.get("flip")
    sources = [0, back]
    while back in sources:
        for source in select.select(sources, [], [])[0]:
            data = os.read(source, 1 << 16 if cut is None else max(1, min(1 << 16, cut - count)))
            if not data:
                sources.remove(source)
                if source == 0:
                    child.stdin.close()
                continue
            if source == 0 and flip is not None and count <= flip < count + len(data):
                data = bytearray(data)
                data[flip - count] ^= 1
            count += len(data)
            counter.write_text(str(count))
            sink = sys.stdout.buffer if source == back else child.stdin
            try:
                sink.write(data)
                sink.flush()
            except (OSError, ValueError):  # the reader has gone
                sources = [s for s in sources if s != source]
            if cut is not None and count >= cut:
                if plan.get("kill"):
                    os.killpg(child.pid, signal.SIGKILL)
                print("Connection to machine closed by remote host.", file=sys.stderr)
                return 255
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
