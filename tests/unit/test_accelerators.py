"""Engines of the ternary network: chosen by name or by test, refused where they are not exact, honest about emulated time."""

import sys
import time
import types

import numpy as np
import pytest

import small_bundle
from edgert import accelerators
from edgert.accelerators import base, emulated, litert
from edgert.accelerators.numpy_kernel import NumpyAccelerator
from edgert.bundle import load
from edgert.errors import AcceleratorError, AcceleratorMissing, BundleError, SelfTestFailed, UsageError
from modelkit.ternary import reference

needs_litert = pytest.mark.skipif(not small_bundle.HAS_LITERT, reason="ai-edge-litert is not installed")
LATER_NS = 10**18


@pytest.fixture
def bundle(tmp_path):
    return load(str(small_bundle.make(tmp_path / "toy")))


class Wrong(NumpyAccelerator):
    """Differs in one logit of one frame."""

    name = "wrong"
    calls = 0

    def infer(self, frame, deadline_ns):
        logits = super().infer(frame, deadline_ns)
        self.calls += 1
        if self.calls == 7:
            logits[2] ^= 1
        return logits


class Reusing(NumpyAccelerator):
    """Returns the same buffer each time."""

    def infer(self, frame, deadline_ns):
        self.buffer = getattr(self, "buffer", None)
        if self.buffer is None:
            self.buffer = np.zeros(small_bundle.CLASSES, np.int8)
        self.buffer[:] = super().infer(frame, deadline_ns)
        return self.buffer


class Wide(NumpyAccelerator):
    def infer(self, frame, deadline_ns):
        return super().infer(frame, deadline_ns).astype(np.int32)


@pytest.fixture
def among(monkeypatch):
    """Make the accelerators known to `choose` the given ones."""
    def use(**makers):
        monkeypatch.setattr(base, "_makers", lambda: makers)
    return use


@pytest.mark.parametrize("name", ["numpy", pytest.param("litert", marks=needs_litert), "emulated"])
def test_every_engine_equals_the_reference_on_every_picture(bundle, name):
    frames = bundle.arrays("frames.npz")["frames"]
    expected = reference.forward(bundle.network, frames)
    accelerator, why = accelerators.choose(name, bundle)
    found = np.stack([accelerator.infer(frame, LATER_NS) for frame in frames])
    assert found.dtype == np.int8 and np.array_equal(found, expected)
    assert len(np.unique(expected, axis=0)) > 20
    assert "24 golden frames" in why and accelerator.name == name
    accelerator.close()


@needs_litert
def test_auto_takes_litert_and_says_why(bundle):
    accelerator, why = accelerators.choose("auto", bundle)
    assert accelerator.name == "litert"
    assert why.startswith("the best that works, ai-edge-litert ") and "fully delegated" in why


def test_auto_falls_back_to_numpy_and_says_what_it_refused(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    accelerator, why = accelerators.choose("auto", bundle)
    assert accelerator.name == "numpy" and "not litert: " in why


def test_auto_never_takes_the_emulated_one():
    assert "emulated" in accelerators.names() and "emulated" not in accelerators.by_rank()


def test_auto_passes_over_an_engine_that_gives_one_wrong_logit(bundle, among):
    among(wrong=lambda: ranked(Wrong(), 99), numpy=NumpyAccelerator)
    accelerator, why = accelerators.choose("auto", bundle)
    assert accelerator.name == "numpy"
    assert "not wrong: accelerator 'wrong' fails its self-test: 1 of 24 golden answers differ" in why


def ranked(accelerator, rank):
    accelerator.rank = rank
    return accelerator


def test_where_nothing_works_every_reason_is_given(bundle, among):
    among(wrong=lambda: ranked(Wrong(), 99))
    with pytest.raises(AcceleratorMissing, match=r"wrong: .*1 of 24"):
        accelerators.choose("auto", bundle)


@pytest.mark.parametrize("cls", [Wrong, Reusing, Wide])
def test_an_engine_that_is_not_exact_or_reuses_its_buffer_fails_the_self_test(bundle, cls):
    accelerator = cls()
    accelerator.open(bundle)
    with pytest.raises(SelfTestFailed):
        accelerators.self_test(accelerator, bundle)


def test_the_self_test_counts_its_frames(bundle):
    accelerator = NumpyAccelerator()
    accelerator.open(bundle)
    assert accelerators.self_test(accelerator, bundle) == 24


def test_an_unknown_name_offers_the_nearest(bundle):
    with pytest.raises(UsageError, match="did you mean 'litert'"):
        accelerators.choose("litret", bundle)
    with pytest.raises(UsageError, match="there are auto, emulated"):
        accelerators.choose("zzzzz", bundle)


@pytest.mark.parametrize("name", ["numpy", pytest.param("litert", marks=needs_litert), "emulated"])
def test_a_wrong_frame_is_an_error_of_one_line(bundle, name):
    accelerator, _ = accelerators.choose(name, bundle)
    frame = bundle.arrays("frames.npz")["frames"][0]
    for bad in (frame.astype(np.float32), frame[:, :, 0], frame[:4]):
        with pytest.raises(AcceleratorError, match="the network takes uint8"):
            accelerator.infer(bad, LATER_NS)


@pytest.mark.parametrize("name", ["numpy", pytest.param("litert", marks=needs_litert), "emulated"])
def test_a_closed_engine_refuses_and_can_be_opened_again(bundle, name):
    accelerator, _ = accelerators.choose(name, bundle)
    accelerator.close()
    with pytest.raises(AcceleratorError, match="not open"):
        accelerator.infer(bundle.arrays("frames.npz")["frames"][0], LATER_NS)
    accelerator.open(bundle)
    assert accelerators.self_test(accelerator, bundle) == 24


@pytest.mark.parametrize("name", ["numpy", pytest.param("litert", marks=needs_litert)])
def test_the_worst_case_of_a_cpu_engine_is_measured_with_a_margin(bundle, name):
    accelerator, _ = accelerators.choose(name, bundle)
    worst_ns, source = accelerator.wcet_ns()
    assert worst_ns > 0 and "times 3" in source


def test_a_stall_during_the_measurement_is_not_taken_for_the_engines_time(bundle):
    class Stalled(NumpyAccelerator):
        def infer(self, frame, deadline_ns):
            time.sleep(0.02)
            return super().infer(frame, deadline_ns)

    accelerator = Stalled()
    accelerator.open(bundle)
    assert accelerator.wcet_ns()[0] < 3 * 20_000_000


# LiteRT ---------------------------------------------------------------------------------------------------------------


class FakeInterpreter:
    """A runtime that delegates as told."""

    operators: tuple = ()

    def __init__(self, model_content, num_threads):
        pass

    def allocate_tensors(self):
        pass

    def get_input_details(self):
        return [{"index": 0, "shape": np.array([1, *small_bundle.SHAPE]), "dtype": np.int8}]

    def get_output_details(self):
        return [{"index": 9, "shape": np.array([1, small_bundle.CLASSES]), "dtype": np.int8}]

    def _get_ops_details(self):
        return self.operators


@pytest.fixture
def runtime(monkeypatch):
    def use(**attributes):
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        package, module = types.ModuleType("tflite_runtime"), types.ModuleType("tflite_runtime.interpreter")
        module.Interpreter = type("Interpreter", (FakeInterpreter,), attributes)
        monkeypatch.setitem(sys.modules, "tflite_runtime", package)
        monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", module)
    return use


@pytest.mark.parametrize("operators", [
    (),
    ({"op_name": "CONV_2D", "inputs": [0], "outputs": [9]},),
    ({"op_name": "DELEGATE", "inputs": [0], "outputs": [5]}, {"op_name": "AVERAGE_POOL_2D", "inputs": [5], "outputs": [9]}),
    ({"op_name": "DELEGATE", "inputs": [0], "outputs": [5]}, {"op_name": "DELEGATE", "inputs": [5], "outputs": [9]}),
])
def test_a_graph_that_is_not_delegated_as_a_whole_is_refused(bundle, runtime, operators):
    runtime(operators=operators)
    with pytest.raises(AcceleratorMissing, match="does not run the whole graph in XNNPACK"):
        litert.LiteRTAccelerator().open(bundle)


def test_a_runtime_made_for_another_numpy_is_named(bundle, runtime):
    def fail(self, **_):
        raise ImportError("numpy.core.multiarray failed to import")

    runtime(__init__=fail)
    with pytest.raises(AcceleratorMissing, match="does not work with NumPy"):
        litert.LiteRTAccelerator().open(bundle)


def test_a_file_that_is_no_model_is_an_error_of_one_line(tmp_path):
    path = small_bundle.make(tmp_path / "toy")
    (path / "mandatory.tflite").write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 64)
    small_bundle.write_manifest(path)
    with pytest.raises(AcceleratorError) as error:
        litert.LiteRTAccelerator().open(load(str(path)))
    assert "\n" not in str(error.value)


@needs_litert
def test_nothing_but_errors_is_written_to_the_terminal(bundle, capfd):
    accelerators.choose("litert", bundle)[0].close()
    assert capfd.readouterr() == ("", "")


# Emulated -------------------------------------------------------------------------------------------------------------


def emulate(tmp_path, **hardware):
    path = small_bundle.make(tmp_path / "slow", hardware={**small_bundle.HARDWARE, **hardware})
    accelerator, why = accelerators.choose("emulated", load(str(path)))
    accelerator.reset_counts()
    return accelerator, why, load(str(path)).arrays("frames.npz")["frames"]


def test_an_emulated_answer_never_comes_before_the_hardwares(tmp_path):
    accelerator, why, frames = emulate(tmp_path, cycles=200_000)  # 2 ms at 100 MHz
    assert accelerator.emulated and accelerator.promised_ns == 2_000_000 + emulated.TRANSPORT_NS
    assert "200000 cycles at 100 MHz (made up) + 87 us" in why and "emulated" in why
    for frame in frames[:20]:
        begin_ns = time.monotonic_ns()
        accelerator.infer(frame, LATER_NS)
        assert time.monotonic_ns() - begin_ns >= accelerator.promised_ns
    assert accelerator.inferences == 20


def test_the_bundles_own_transport_replaces_the_usual_one(tmp_path):
    accelerator, _, _ = emulate(tmp_path, transport_ns=5_000)
    assert accelerator.promised_ns == 10_000 + 5_000


def test_an_answer_later_than_promised_is_an_overshoot(tmp_path):
    accelerator, _, frames = emulate(tmp_path)
    slow = accelerator._engine
    infer = slow.infer
    slow.infer = lambda frame, deadline_ns: (time.sleep(0.002), infer(frame, deadline_ns))[1]
    for frame in frames[:10]:
        accelerator.infer(frame, LATER_NS)
    assert (accelerator.overshoots, accelerator.overshoot_ratio) == (10, 1.0)
    assert accelerator.overshoot_ratio > emulated.LIMIT_OF_OVERSHOOTS


def test_the_admitted_worst_case_is_the_time_from_which_overshoots_count(tmp_path):
    accelerator, _, _ = emulate(tmp_path, cycles=150_000)
    worst_ns, source = accelerator.wcet_ns()
    assert worst_ns == accelerator.promised_ns + emulated.TOLERANCE_NS
    assert source.startswith("emulated: 150000 cycles")


@pytest.mark.parametrize("hardware", [{}, {"cycles": 0, "clock_hz": 1}, {"cycles": 5, "clock_hz": "fast"}, {"cycles": 5}, [3]])
def test_a_bundle_without_the_hardwares_cycles_is_refused(tmp_path, hardware):
    path = small_bundle.make(tmp_path / "none", hardware=hardware)
    with pytest.raises(BundleError, match=r"timing.json has no usable cycles"):
        accelerators.choose("emulated", load(str(path)))


# Other packages -------------------------------------------------------------------------------------------------------


class Entry:
    def __init__(self, name, found):
        self.name, self.found = name, found

    def load(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_another_package_adds_an_accelerator_but_cannot_replace_one(bundle, monkeypatch):
    class Mine(NumpyAccelerator):
        name, rank = "mine", 50

    entries = [Entry("mine", Mine), Entry("numpy", Wrong), Entry("broken", RuntimeError("no licence"))]
    monkeypatch.setattr(base, "entry_points", lambda group: entries if group == base.GROUP else [])
    base._makers.cache_clear()
    try:
        assert set(accelerators.names()) >= {"mine", "numpy", "broken"}
        assert accelerators.by_rank()[0] == "mine"
        assert accelerators.choose("auto", bundle)[0].name == "mine"
        assert isinstance(accelerators.make("numpy"), NumpyAccelerator) and not isinstance(accelerators.make("numpy"), Wrong)
        with pytest.raises(AcceleratorMissing, match="RuntimeError: no licence"):
            accelerators.choose("broken", bundle)
    finally:
        base._makers.cache_clear()
