"""What a deployment consists of, and the words for what goes wrong."""

import ast
import dataclasses
import io
import struct
import zipfile
from pathlib import Path

import pytest
import typer

import other_machine
import small_bundle
from edgert.board import floats, package, receiver, ssh
from edgert.bundle import load
from edgert.cli import remote
from edgert.errors import (
    ConnectionLost,
    EdgertError,
    HostKeyRefused,
    HostUnreachable,
    LoginRefused,
    PythonUnfit,
    RemoteError,
    UsageError,
    WrongMachine,
)
from modelkit.ternary import tflite

FACTS = {"machine": "aarch64", "bits": 64, "python": [3, 11, 2], "implementation": "CPython", "executable": "/usr/bin/python3",
         "glibc": "2.36", "numpy": "1.24.2", "numpy_fault": "", "board": ""}
TARGET = ssh.Target("pi@board", 2222)


# The machine ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machine", "bits", "kind"), [
    ("x86_64", 64, "x86_64"), ("aarch64", 64, "aarch64"), ("armv7l", 32, "armv7l"), ("aarch64", 32, "armv7l"), ("armv8l", 32, "armv7l")])
def test_a_machine_is_named_as_its_python_sees_it(machine, bits, kind):
    assert package.kind_of({**FACTS, "machine": machine, "bits": bits}, "board") == kind


@pytest.mark.parametrize(("facts", "error", "said"), [
    ({"machine": "armv6l", "bits": 32}, WrongMachine, r"board is armv6l, 32 bit; expected x86_64, aarch64, armv7l; deploy to another"),
    ({"machine": "riscv64"}, WrongMachine, "board is riscv64"),
    ({"machine": "x86_64", "bits": 32}, WrongMachine, "x86_64, 32 bit"),
    ({"python": [3, 8, 10]}, PythonUnfit, r"has CPython 3.8.10 \(/usr/bin/python3\); expected CPython 3.10 or newer; install a"),
    ({"implementation": "PyPy"}, PythonUnfit, "has PyPy"),
    ({"numpy": "", "numpy_fault": "No module named 'numpy'"}, PythonUnfit, r"no NumPy .*No module .*apt install python3-numpy"),
    ({"numpy": "1.19.5"}, PythonUnfit, "NumPy 1.19.5; expected 1.21"),
])
def test_a_machine_that_cannot_is_refused_with_what_was_found_expected_and_to_do(facts, error, said):
    with pytest.raises(error, match=said):
        package.kind_of({**FACTS, **facts}, "board")


@pytest.mark.parametrize(("machine", "python", "numpy", "requirement"), [
    ("aarch64", [3, 13], "2.2", package.LITERT), ("x86_64", [3, 10], "1.21.5", package.LITERT),
    ("armv7l", [3, 10], "1.21.5", package.TFLITE), ("armv7l", [3, 12], "1.26", ""), ("armv7l", [3, 11], "2.0.1", "")])
def test_the_tflite_runtime_is_the_one_that_exists_for_that_machine(machine, python, numpy, requirement):
    found, note = package.runtime_for(machine, python, numpy)
    assert found == requirement and bool(note) == (not requirement)


def test_wheels_are_asked_for_up_to_the_machines_glibc():
    tags = package.platforms("aarch64", "2.31")
    assert tags[0] == "manylinux_2_31_aarch64" and "manylinux_2_27_aarch64" in tags and "manylinux2014_aarch64" in tags
    assert not any("2_32" in tag for tag in tags)
    assert package.platforms("armv7l", "")[0] == "manylinux_2_28_armv7l"


def test_what_edgert_needs_is_sent_but_never_numpy():
    wanted = [package._name(text) for text in package.own_requirements()]
    assert {"attrs", "typer", "rich", "tomli"} <= set(wanted) and "numpy" not in wanted
    assert all(";" not in text for text in package.own_requirements())


# The files --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("package")
    bundle = load(str(small_bundle.make(root / "toy")))
    other_machine.wheel(root / "wheels", dummy__inner="x = 1")
    return bundle, package.make(bundle, "aarch64", FACTS, folder=root / "wheels")


def test_a_version_has_edgert_the_wheels_the_bundle_and_a_launcher(made):
    bundle, one = made
    files = {file.path: file for file in one.files}
    assert {"edgert", "start.py", "BUNDLE", "python/edgert/cli/run.py", "python/imprecise/engine.py", "python/modelkit/ternary/kernel.py",
            "python/dummy.py", "python/dummy/inner", "python/edgert/zoo/toy/mandatory.npz",
            "python/edgert/zoo/toy/manifest.json"} <= set(files)
    assert [path for path, file in files.items() if file.executable] == ["edgert"]
    assert not [path for path in files if "__pycache__" in path or path.endswith((".so", ".pyc"))]
    assert not [path for path in files if path.startswith("python/edgert/zoo/") and not path.startswith("python/edgert/zoo/toy/")]
    assert files["python/edgert/zoo/toy/golden.npz"].content == bundle.contents["golden.npz"]
    assert "python/numpy/__init__.py" not in files


def test_the_same_files_give_the_same_name_and_another_byte_another_name(made, tmp_path):
    bundle, one = made
    other_machine.wheel(tmp_path / "same", dummy__inner="x = 1")
    other_machine.wheel(tmp_path / "other", dummy__inner="x = 2")
    assert package.make(bundle, "aarch64", FACTS, folder=tmp_path / "same").name == one.name
    assert package.make(bundle, "aarch64", FACTS, folder=tmp_path / "other").name != one.name
    assert one.name.startswith("toy-1-")


def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path):
    path = tmp_path / "evil-1.0-py3-none-any.whl"
    for name in ("../evil.py", "/evil.py", "a/../../evil.py"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "")
        with pytest.raises(RemoteError, match="leads out of its folder"):
            list(package.unpacked(path))


def test_scripts_of_a_wheel_are_left_out_and_its_libraries_are_put_in_place(tmp_path):
    path = tmp_path / "tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("tool.py", "tool-1.0.data/scripts/tool", "tool-1.0.data/purelib/extra.py", "tool-1.0.dist-info/RECORD"):
            archive.writestr(name, "")
    assert [name for name, _ in package.unpacked(path)] == ["tool.py", "extra.py"]


@pytest.mark.parametrize("tag", ["cp311-cp311-manylinux2014_x86_64", "cp310-cp310-manylinux2014_aarch64"])
def test_a_wheel_for_another_machine_or_python_is_refused(tmp_path, tag):
    other_machine.wheel(tmp_path, tag=tag)
    with pytest.raises(WrongMachine, match=r"dummy-1.0-.* is for .*; expected cp311, aarch64"):
        package.wheels("aarch64", FACTS, "", tmp_path)


def test_two_wheels_with_different_files_of_one_name_are_refused(made, tmp_path):
    other_machine.wheel(tmp_path, name="one", shared="1")
    other_machine.wheel(tmp_path, name="two", shared="2")
    with pytest.raises(RemoteError, match="two wheels hold different files shared"):
        package.make(made[0], "aarch64", FACTS, folder=tmp_path)


def test_without_a_wheel_it_says_so(tmp_path):
    with pytest.raises(EdgertError, match="holds no wheel"):
        package.wheels("aarch64", FACTS, "", tmp_path)


def test_what_runs_there_is_python_of_ten_years():
    source = Path(receiver.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not imported & {"numpy", "edgert", "imprecise", "modelkit", "__future__"}
    compile(ssh.BOOT, "boot", "exec")


# Words ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "error", "words"), [
    ("Host key verification failed.", HostKeyRefused, r"\[board\]:2222 is not known here.*log in once.*ssh -p 2222 pi@board"),
    ("No ED25519 host key is known for board and you have requested strict checking.", HostKeyRefused, "not known"),
    ("@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", HostKeyRefused,
     r"ssh-keygen -R '\[board\]:2222'"),
    ("pi@board: Permission denied (publickey,password).", LoginRefused, "ssh-copy-id -p 2222 pi@board"),
    ("ssh: Could not resolve hostname board: Name or service not known", HostUnreachable, "no ssh answers at .*Could not resolve"),
    ("ssh: connect to host board port 2222: Connection refused", HostUnreachable, "Connection refused"),
    ("ssh: connect to host board port 2222: No route to host", HostUnreachable, "No route"),
])
def test_what_ssh_says_before_it_is_connected_becomes_an_error_with_the_next_command(said, error, words):
    found = ssh.fault(TARGET, said, open_already=False)
    assert type(found) is error and found.exit_code == 3
    with pytest.raises(error, match=words):
        raise found


@pytest.mark.parametrize(("said", "error", "words"), [
    ("sudo: a password is required", LoginRefused, "NOPASSWD"),
    ("bash: line 1: exec: python3: not found", PythonUnfit, "has no python3.*apt install"),
    ("client_loop: send disconnect: Broken pipe", ConnectionLost, "type the command again"),
    ("", ConnectionLost, "nothing was said"),
])
def test_what_ssh_says_later_becomes_an_error_with_the_next_command(said, error, words):
    with pytest.raises(error, match=words):
        raise ssh.fault(TARGET, said, open_already=True)


@pytest.mark.parametrize("message", [
    {"error": "space", "free": 1 << 20, "need": 5 << 20}, {"error": "space", "free": 0, "need": 0}, {"error": "busy", "seconds": 1},
    {"error": "hash", "path": "a", "expected": "0" * 64, "found": "1" * 64}, {"error": "no previous", "current": ""},
    {"error": "running"},
    {"error": "altered", "version": "a"}, {"error": "nothing deployed", "base": "/x"}, {"error": "no record", "runs": []},
    {"error": "no record", "runs": ["a.db"]}, {"error": "record", "record": "a", "reason": "b"}, {"error": "idle", "seconds": 60},
    {"error": "fault", "reason": "KeyError"}, {"error": "system", "reason": "[Errno 13] Permission denied: '/x'"}])
def test_every_refusal_says_where_and_what_to_type(message):
    found = ssh.complaint(TARGET, message)
    assert isinstance(found, EdgertError) and found.next_step and "{" not in str(found) and "\n" not in str(found)


def test_a_host_cannot_be_an_option_of_ssh():
    with pytest.raises(RemoteError, match="no USER@HOST"), ssh.Link(ssh.Target("-oProxyCommand=touch /tmp/x")):
        pass


def test_host_keys_stay_strict_whatever_is_asked_for():
    link = ssh.Link(dataclasses.replace(TARGET, options=("StrictHostKeyChecking=no",)))
    options = [part for part in link._command() if "StrictHostKeyChecking" in part]
    assert options == ["StrictHostKeyChecking=yes", "StrictHostKeyChecking=no"]  # ssh takes the first


# Flags of a run there -----------------------------------------------------------------------------------------------------


def test_flags_of_a_run_there_are_those_of_a_run(tmp_path):
    flags = ["--source", "front=dataset:fashion", "--source", "rear=dataset:fashion", "--rate", "front=30", "--deadline", "33ms",
             "--seed", "7", "--best-effort"]
    arguments, record, like, as_json = remote.split([*flags, "--record", str(tmp_path / "a.db"), "--json", "--overwrite"])
    assert sorted(arguments) == sorted(flags) and record == tmp_path / "a.db" and like is None and as_json
    assert arguments.index("front=dataset:fashion") < arguments.index("rear=dataset:fashion")


@pytest.mark.parametrize(("given", "said"), [(["fashion"], "leave it out"), (["--rate"], "--rate"), (["--nonsense", "1"], "--nonsense"),
                                             (["--seed", "x"], "--seed")])
def test_what_a_run_would_not_take_is_refused_before_anything_is_connected(given, said):
    with pytest.raises((UsageError, typer.BadParameter.__base__)) as found:
        remote.split(given)
    assert said in getattr(found.value, "format_message", found.value.__str__)()


def test_a_record_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "a.db").write_text("mine")
    with pytest.raises(UsageError, match="is no run record"):
        remote.split(["--record", str(tmp_path / "a.db")])


# Floats on small Arm ------------------------------------------------------------------------------------------------------


def auxv(folder, hwcap, size="I"):
    (folder / "self").mkdir(parents=True, exist_ok=True)
    (folder / "self" / "auxv").write_bytes(struct.pack(f"<6{size}", 6, 4096, 16, hwcap, 0, 0))
    return folder


def test_vfpv4_is_what_the_kernel_says_and_else_what_cpuinfo_says(tmp_path):
    assert floats.vfpv4(auxv(tmp_path / "a", 1 << 16 | 1 << 13)) and not floats.vfpv4(auxv(tmp_path / "b", 1 << 13))
    for features, there in (("half neon vfpv3 vfpv4", True), ("half neon vfpv3", False)):
        folder = tmp_path / features[-1] / str(there)
        folder.mkdir(parents=True)
        (folder / "cpuinfo").write_text(f"processor : 0\nFeatures : {features}\n")
        assert floats.vfpv4(folder) is there
    assert not floats.vfpv4(tmp_path / "nowhere")


def test_a_model_with_a_float_is_told_from_one_without():
    whole = tflite.dumps(small_bundle.network())
    assert not floats.has_floats(whole)
    assert floats.has_floats(b"") and floats.has_floats(whole[:40])  # what cannot be read may be anything
    types = io.BytesIO(whole)
    assert types.read(8)[4:] == b"TFL3"


def test_floats_are_refused_only_where_they_would_end_the_process(monkeypatch):
    monkeypatch.setattr(floats, "vfpv4", lambda: False)
    monkeypatch.setattr(floats.platform, "machine", lambda: "armv7l")
    assert "no VFPv4" in floats.refusal(b"") and floats.refusal(tflite.dumps(small_bundle.network())) == ""
    monkeypatch.setattr(floats, "vfpv4", lambda: True)
    assert floats.refusal(b"") == ""
    monkeypatch.setattr(floats, "vfpv4", lambda: False)
    monkeypatch.setattr(floats.platform, "machine", lambda: "aarch64")
    assert floats.refusal(b"") == ""
