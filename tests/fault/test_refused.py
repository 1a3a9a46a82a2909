"""What cannot be right is refused in one line, with the next thing to type, and exit code 2 or 3; nothing is started."""

import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
from live_runs import PATIENCE_S, command

from modelkit.ternary import tflite
from modelkit.ternary.layers import Dense, MaxPool
from modelkit.ternary.network import Network


def _refused(bundle, *arguments):
    result = subprocess.run(command(bundle, *arguments, "--duration", "1s"), capture_output=True, text=True, timeout=PATIENCE_S,
                            check=False)
    lines = result.stderr.strip().splitlines()
    assert result.stdout == "" and lines and lines[-1].startswith("edgert: "), result.stderr
    assert "Traceback" not in result.stderr
    return result.returncode, lines[-1]


@pytest.mark.parametrize(("arguments", "told"), [
    (["--accelerator", "litrt"], "did you mean 'litert'?"),
    (["--source", "telescope:x"], "telescope"),
    (["--source", "video:no-such-file.mp4"], "no-such-file.mp4"),
    (["--load", "1.5", "--deadline", "1ms"], "--deadline"),
])
def test_what_cannot_be_right_for_this_bundle(bundle, arguments, told):
    code, line = _refused(bundle, *arguments)
    assert code in (2, 3) and told in line


def test_an_altered_stage(bundle, tmp_path):
    altered = tmp_path / "altered"
    shutil.copytree(bundle, altered)
    content = bytearray((altered / "stage1.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (altered / "stage1.tflite").write_bytes(content)
    code, line = _refused(altered)
    assert code == 3 and "stage1.tflite was altered" in line


def _with_stage(bundle, folder, content):
    """A copy of the bundle with another stage 1, its hash set right."""
    shutil.copytree(bundle, folder)
    (folder / "stage1.tflite").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["stage1.tflite"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_stage_that_is_no_model(bundle, tmp_path):
    content = b"\x20\x00\x00\x00TFL3" + b"\x00" * 200
    code, line = _refused(_with_stage(bundle, tmp_path / "broken", content))
    assert code == 3 and "stage1 cannot be loaded" in line.replace("stage1.tflite", "stage1")


def test_a_stage_for_frames_of_another_shape(bundle, tmp_path):
    dense = Dense(np.ones((1, 5), np.int8), np.zeros(5, np.int32), np.zeros(5, np.int8), bits=None)
    network = Network((8, 8, 1), [MaxPool(8, 8), dense], 0)
    code, line = _refused(_with_stage(bundle, tmp_path / "other", tflite.dumps(network)))
    assert code == 3 and "[1, 8, 8, 1], not int8 [1, 16, 16, 1]" in line


def test_what_is_not_admitted_is_refused_with_the_deadline_that_would_be(bundle):
    code, line = _refused(bundle, "--deadline", "4ms", "--rate", "200", "--guard", "3900us")
    assert code == 3 and "not admitted" in line and "--best-effort" in line
