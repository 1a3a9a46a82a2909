"""The arrows between the rooms: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"imprecise": "scheduler", "edgert": "sw", "gateware": "hw", "modelkit": "models"}
HEAVY = {"tensorflow", "keras", "onnx", "onnxruntime", "qonnx", "hls4ml", "torch", "cv2", "scipy", "ai_edge_litert", "tflite_runtime"}


def imports(path, lazily):
    """Top-level names imported by a file: at import time, or within functions (`lazily`)."""
    tree = ast.parse(path.read_text())
    typing_only = {id(n) for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test) for n in ast.walk(i)}
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if id(node) in typing_only or (id(node) in inside) != lazily:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def modules(room):
    return [p for p in (ROOT / ROOMS[room] / room).rglob("*.py") if "zoo" not in p.parts]


def allowed(room, name):
    """Whether `room` may import module `name` at import time."""
    top = name.partition(".")[0]
    if top not in ROOMS or top == room:
        return True
    if room == "edgert":
        return top == "imprecise" or name.startswith("modelkit.ternary")
    return room == "gateware" and name.startswith("modelkit.ternary")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_along_the_arrows(room):
    wrong = [(str(p.relative_to(ROOT)), n) for p in modules(room) for n in imports(p, lazily=False) if not allowed(room, n)]
    assert wrong == []


def test_the_scheduler_never_imports_another_room_even_lazily():
    wrong = [(str(p.relative_to(ROOT)), n) for p in modules("imprecise") for n in imports(p, lazily=True)
             if n.partition(".")[0] in ROOMS and n.partition(".")[0] != "imprecise"]
    assert wrong == []


@pytest.mark.parametrize("room", ["imprecise", "edgert"])
def test_heavy_packages_are_imported_where_used_not_at_the_top(room):
    wrong = [(str(p.relative_to(ROOT)), n) for p in modules(room) for n in imports(p, lazily=False) if n.partition(".")[0] in HEAVY]
    assert wrong == []


@pytest.mark.parametrize("name", ["edgert", "edgert.cli", "imprecise.engine"])
def test_importing_does_not_load_heavy_packages(name):
    code = f"import sys, {name}; print(sorted(set(m.partition('.')[0] for m in sys.modules) & {HEAVY!r}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_no_file_is_longer_than_500_lines():
    files = [p for folder in ("scheduler", "sw", "hw", "models", "tests") for p in (ROOT / folder).rglob("*.py")]
    assert [str(p) for p in files if len(p.read_text().splitlines()) > 500] == []
