"""On an emulated Cortex-A9, as on a PYNQ-Z2: exact on the NumPy kernel, int8 stages on tflite-runtime, floats refused before they end
the process; and deployment through a real sshd that is cut, goes on, runs there and rolls back.
"""

import json
import random
import signal

import pytest
from arm_machine import here

import small_bundle
from edgert.board import deploy as deploying
from edgert.board import package
from edgert.errors import RemoteError
from edgert.executive.replay import replay
from edgert.results.record import Run

SILL = 128 + signal.SIGILL


@pytest.fixture(scope="module")
def deployed(armhf):
    return armhf, armhf.deploy("fashion")


def test_it_is_deployed_with_tflite_runtime_and_passes_its_self_test_on_the_numpy_kernel(deployed):
    machine, done = deployed
    assert machine.link("current") == done["version"]
    machine.assert_whole()
    checks = {check["name"]: check for check in done["checks"]}
    assert {name: check["level"] for name, check in checks.items()} == dict.fromkeys(
        ("bundle", "golden frames", "throughput", "stage1.tflite", "stage2.tflite"), "ok")
    assert checks["golden frames"]["found"].startswith("numpy: the best that works, NumPy 1.24.2 kernel")
    assert "tflite-runtime 2.14.0" in checks["stage1.tflite"]["found"]
    facts = machine.python("import platform, struct; print(platform.machine(), struct.calcsize('P'))").stdout.split()
    assert facts == ["armv7l", "4"]


@pytest.mark.parametrize("data", ["golden", "random:300"])
def test_the_numpy_kernel_is_equal_to_the_reference_in_every_bit(deployed, data):
    report = json.loads(deployed[0].edgert("model", "verify", "fashion", "--data", data, "--engine", "numpy", "--json").stdout)
    results = report["data"][0]["engines"]
    assert "numpy" in {r["engine"] for r in results}
    assert all(r["mismatches"] == 0 and r["distinct_outputs"] > r["frames"] / 2 for r in results)


# Floats -------------------------------------------------------------------------------------------------------------------

OUTRIGHT = """
import sys, numpy
from tflite_runtime.interpreter import Interpreter
one = Interpreter(model_path=sys.argv[1], num_threads=1)
one.allocate_tensors()
one.set_tensor(one.get_input_details()[0]["index"], numpy.ones((1, 64), numpy.float32))
one.invoke()
print("ran", float(one.get_tensor(one.get_output_details()[0]["index"])[0, 0]))
"""
ASKED = """
import sys
from edgert.accelerators import litert
from edgert.errors import AcceleratorMissing
from edgert.executive.worker import StageError, StageRunner
content = open(sys.argv[1], "rb").read()
try:
    litert.load(content, "float.tflite")
    print("loaded")
except AcceleratorMissing as error:
    print("refused:", error)
try:
    StageRunner("float.tflite", content, (8, 8, 1), 5)
except StageError as error:
    print("stage:", error)
"""


@pytest.fixture(scope="module")
def float_model(deployed):
    """Path in the root of a fully connected layer of floats, 64 to 5, and tanh of it: what the delegate and the kernels compute."""
    machine, _ = deployed
    (machine.root / "root" / "float.tflite").write_bytes(small_float_model())
    return machine, "/root/float.tflite"


def small_float_model():
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name, shape, buffer):
        one = schema.TensorT()
        one.name, one.shape, one.type, one.buffer = name, shape, schema.TensorType.FLOAT32, buffer
        return one

    weights = schema.BufferT()
    weights.data = np.frombuffer(np.full((5, 64), 0.5, np.float32).tobytes(), np.uint8)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs, operator.opcodeIndex = [0, 1, -1], [2], 0
    operator.builtinOptions, operator.builtinOptionsType = schema.FullyConnectedOptionsT(), schema.BuiltinOptions.FullyConnectedOptions
    graph = schema.SubGraphT()
    graph.tensors = [tensor("in", [1, 64], 0), tensor("weights", [5, 64], 1), tensor("out", [1, 5], 0)]
    graph.operators, graph.inputs, graph.outputs, graph.name = [operator], [0], [2], "main"
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT(), weights]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_a_float_model_is_refused_before_it_would_end_the_process(float_model):
    machine, path = float_model
    outright = machine.python(OUTRIGHT, path, check=False)
    assert outright.returncode in (-signal.SIGILL, SILL), outright.stdout + outright.stderr  # what must not happen to a run
    asked = machine.python(ASKED, path)
    lines = asked.stdout.splitlines()
    assert lines[0].startswith("refused:") and "no VFPv4" in lines[0] and lines[1].startswith("stage:") and "no VFPv4" in lines[1]


def test_where_the_processor_has_vfpv4_floats_are_not_refused(float_model):
    machine, path = float_model
    asked = machine.python(ASKED, path, cpu="cortex-a15")
    assert asked.stdout.splitlines()[0] == "loaded"
    outright = machine.python(OUTRIGHT, path, cpu="cortex-a15")
    assert outright.stdout.startswith("ran 32")


# Deployment there ---------------------------------------------------------------------------------------------------------


def test_cut_at_random_bytes_deployed_again_run_there_and_rolled_back(deployed, tmp_path, monkeypatch):
    machine, first = deployed
    bundle = str(small_bundle.make(tmp_path / "toy"))
    source = list(package.own_files())
    monkeypatch.setattr(package, "own_files", lambda: [*source, ("edgert/padding.txt", random.Random(1).randbytes(1 << 20))])
    rng = random.Random(2)
    for _ in range(3):
        machine.cut(rng.randrange(150_000, 600_000))
        with pytest.raises(RemoteError):
            deploying.deploy(bundle, machine.target, lambda text: None, seconds=0)
        assert machine.link("current") == first["version"]
        machine.assert_whole()
    machine.plan()
    done = deploying.deploy(bundle, machine.target, lambda text: None, seconds=0)
    assert machine.link("current") == done.version and machine.link("previous") == first["version"]
    assert done.sent_bytes < 1 << 20
    machine.assert_whole()
    record = tmp_path / "there.db"
    here("remote", "run", machine.target.host, *machine.flags, "--best-effort", "--policy", "fifo-gated", "--rate", "5",
         "--deadline", "150ms", "--duration", "3s", "--record", str(record))
    with Run(record) as run:
        assert run.finished and len(run.frames) > 0 and run.meta["machine"]["architecture"] == "armv7l"
        assert replay(run)[2] is None
    back = deploying.rollback(machine.target, lambda text: None)
    assert back.version == first["version"] == machine.link("current") and machine.link("previous") == done.version
    assert not list((machine.base / "runs").iterdir())
