"""What cannot be right is refused in one line, with the next thing to type, and exit code 2 or 3; nothing is started."""

import json
import shutil
import subprocess

import pytest
from live_runs import PATIENCE_S, command


def _refused(bundle, *arguments):
    result = subprocess.run(command(bundle, *arguments, "--duration", "1s"), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    lines = result.stderr.strip().splitlines()
    assert result.stdout == "" and lines and lines[-1].startswith("edgert: "), result.stderr
    assert "Traceback" not in result.stderr
    return result.returncode, lines[-1]


@pytest.mark.parametrize(("arguments", "told"), [
    (["--rate", "0"], "--rate 0"),
    (["--rate", "-3"], "--rate -3"),
    (["--rate", "fast"], "fast"),
    (["--rate", "nan"], "nan"),
    (["--rate", "rear=30"], "rear"),
    (["--deadline", "33"], "no unit"),
    (["--deadline", "0ms"], "not above 0"),
    (["--deadline", "-5ms"], "--deadline"),
    (["--policy", "fifo-gatd"], "did you mean 'fifo-gated'?"),
    (["--policy", "threshold:theta=7"], "theta"),
    (["--cpus", "0"], "--cpus 0"),
    (["--load", "-1"], "--load"),
    (["--load", "1.5", "--rate", "30"], "--rate"),
    (["--source", "a=dataset:tiny", "--source", "a=dataset:tiny"], "two sources"),
    (["--accelerator", "litrt"], "did you mean 'litert'?"),
    (["--like", "no-such-run.db"], "no-such-run.db"),
    (["--source", "telescope:x"], "telescope"),
])
def test_a_command_line_that_cannot_be_right(bundle, arguments, told):
    code, line = _refused(bundle, *arguments)
    assert code == 2 and told in line


def test_an_unknown_bundle(tmp_path):
    code, line = _refused("fashon")
    assert code == 2 and "fashon" in line


def test_an_altered_stage(bundle, tmp_path):
    altered = tmp_path / "altered"
    shutil.copytree(bundle, altered)
    content = bytearray((altered / "stage1.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (altered / "stage1.tflite").write_bytes(content)
    code, line = _refused(altered)
    assert code == 3 and "stage1.tflite was altered" in line


def test_a_stage_that_is_no_model_or_of_another_shape(bundle, tmp_path):
    import hashlib

    for content, told in ((b"\x20\x00\x00\x00TFL3" + b"\x00" * 200, "cannot be loaded"),):
        broken = tmp_path / "broken"
        shutil.copytree(bundle, broken)
        (broken / "stage1.tflite").write_bytes(content)
        manifest = json.loads((broken / "manifest.json").read_text())
        manifest["files"]["stage1.tflite"] = hashlib.sha256(content).hexdigest()
        (broken / "manifest.json").write_text(json.dumps(manifest))
        code, line = _refused(broken)
        assert code == 3 and told in line


def test_what_is_not_admitted_is_refused_with_the_deadline_that_would_be(bundle):
    code, line = _refused(bundle, "--deadline", "4ms", "--rate", "200", "--guard", "3900us")
    assert code == 3 and "not admitted" in line and "--best-effort" in line


def test_a_load_for_which_the_deadline_is_too_short_names_one_that_is_not(bundle):
    code, line = _refused(bundle, "--load", "1.5", "--deadline", "1ms")
    assert code == 2 and "--deadline" in line
