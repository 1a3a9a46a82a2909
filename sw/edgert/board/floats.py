"""Float models on small Arm processors: refused before they end the process.

The armv7l TFLite runtime uses VFPv4 instructions for floats. A Cortex-A9 (PYNQ-Z2) has VFPv3: a float model ends there in SIGILL, which
Python cannot catch. int8 models run. What the processor has is read from the kernel's AT_HWCAP, or else from /proc/cpuinfo.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path

_AT_HWCAP, _HWCAP_VFPV4 = 16, 1 << 16
_FLOAT32, _FLOAT16, _FLOAT64 = 0, 1, 10  # TensorType in the TFLite schema


def vfpv4(proc: Path = Path("/proc")) -> bool:
    """Whether this 32-bit Arm processor has VFPv4."""
    try:
        data = (proc / "self" / "auxv").read_bytes()
    except OSError:
        data = b""
    words = struct.unpack_from(f"{len(data) // 4}I", data)
    found = dict(zip(words[::2], words[1::2]))
    if _AT_HWCAP in found:
        return bool(found[_AT_HWCAP] & _HWCAP_VFPV4)
    try:
        lines = (proc / "cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any("vfpv4" in line.split() for line in lines if line.startswith("Features"))


def refusal(content: bytes) -> str:
    """Why a `.tflite` must not be loaded here; "": it may."""
    if not platform.machine().startswith("arm") and not (platform.machine() == "aarch64" and struct.calcsize("P") == 4):
        return ""
    if not has_floats(content) or vfpv4():
        return ""
    return "it computes with floats, and this processor has no VFPv4: it would end in an illegal instruction (int8 models run)"


def has_floats(content: bytes) -> bool:
    """Whether any tensor of a `.tflite` is a float; true as well where that cannot be read."""
    try:
        model = _table(content, 0)
        return any(_tensor_type(content, tensor) in (_FLOAT32, _FLOAT16, _FLOAT64)
                   for graph in _tables(content, model, 2) for tensor in _tables(content, graph, 0))
    except (struct.error, IndexError):
        return True


# A flatbuffer is read at these three places only: Model.subgraphs (field 2), SubGraph.tensors (0), Tensor.type (1).


def _u32(content: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", content, at)[0]
    return value


def _table(content: bytes, at: int) -> int:
    return at + _u32(content, at)


def _field(content: bytes, table: int, number: int) -> int:
    """Where a field of a table is; 0: left out."""
    vtable = table - struct.unpack_from("<i", content, table)[0]
    size, entry = struct.unpack_from("<H", content, vtable)[0], 4 + 2 * number
    offset: int = struct.unpack_from("<H", content, vtable + entry)[0] if entry < size else 0
    return table + offset if offset else 0


def _tables(content: bytes, table: int, number: int) -> list[int]:
    """The tables of a vector field."""
    at = _field(content, table, number)
    if not at:
        return []
    vector = _table(content, at)
    return [_table(content, vector + 4 + 4 * i) for i in range(min(_u32(content, vector), len(content) // 4))]


def _tensor_type(content: bytes, tensor: int) -> int:
    at = _field(content, tensor, 1)
    return content[at] if at else _FLOAT32
