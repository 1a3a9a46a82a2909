"""`mandatory.npz`: a ternary network as plain integers, read without pickle and with every size checked first.

The bytes are a function of the network alone (fixed time stamps, nothing compressed, own array headers), so their sha256 names
the model. Entries, NumPy arrays: `format` (1), `input_shape` [3], `logit_shift`, `kinds` [layers] and for layer i
`i.geometry` int32 and, where it has weights, `i.weights` int8, `i.bias` int32, `i.shift` int8.

| kind | number | geometry |
|---|---|---|
| Conv, Depthwise | 0, 1 | bits, stride, top, bottom, left, right |
| MaxPool | 2 | size, stride |
| AvgPool | 3 | size |
| Dense | 4 | bits (0: the int8 logits) |
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np

from modelkit.ternary.layers import AvgPool, Conv, Dense, Depthwise, Layer, MaxPool
from modelkit.ternary.network import Network

FORMAT = 1
MAX_FILE_BYTES = 64 << 20
MAX_LAYERS = 256
_KINDS: tuple[type, ...] = (Conv, Depthwise, MaxPool, AvgPool, Dense)
_DTYPES = {"<i4": np.int32, "|i1": np.int8}
_GEOMETRY_LENGTH = {Conv: 6, Depthwise: 6, MaxPool: 2, AvgPool: 1, Dense: 1}
_HEADER_LENGTH = 128
_EPOCH = (1980, 1, 1, 0, 0, 0)


def digest(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _npy(array: np.ndarray) -> bytes:
    """The `.npy` bytes of an array, with a header of fixed length (NumPy's own differs between its versions)."""
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {tuple(array.shape)}, }}"
    header = text.ljust(_HEADER_LENGTH - 11).encode("ascii") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + array.tobytes()


def _geometry(layer: Layer) -> list[int]:
    if isinstance(layer, (Conv, Depthwise)):
        return [layer.bits, layer.stride, *layer.pad]
    if isinstance(layer, MaxPool):
        return [layer.size, layer.stride]
    return [layer.size if isinstance(layer, AvgPool) else layer.bits or 0]


def _entries(network: Network) -> dict[str, np.ndarray]:
    entries: dict[str, np.ndarray] = {
        "format": np.array(FORMAT, "<i4"),
        "input_shape": np.array(network.input_shape, "<i4"),
        "logit_shift": np.array(network.logit_shift, "<i4"),
        "kinds": np.array([_KINDS.index(type(layer)) for layer in network.layers], "<i4"),
    }
    for index, layer in enumerate(network.layers):
        entries[f"{index}.geometry"] = np.array(_geometry(layer), "<i4")
        if isinstance(layer, (Conv, Depthwise, Dense)):
            entries[f"{index}.weights"] = layer.weights
            entries[f"{index}.bias"] = layer.bias.astype("<i4")
            entries[f"{index}.shift"] = layer.shift
    return entries


def dumps(network: Network) -> bytes:
    """The bytes of `mandatory.npz`, the same for equal networks on every machine."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in _entries(network).items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, _npy(array))
    return out.getvalue()


def save(network: Network, path: str | os.PathLike[str]) -> str:
    """Write `mandatory.npz` and return its sha256 (the model identity)."""
    data = dumps(network)
    Path(path).write_bytes(data)
    return digest(data)


def _read_entry(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array; its dtype is int8 or int32 and its header's shape accounts for every byte, before it is made."""
    try:
        data = archive.read(f"{name}.npy")
    except KeyError:
        raise ValueError(f"entry {name} is missing") from None
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"entry {name}: expected .npy format 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.str not in _DTYPES or fortran:
        raise ValueError(f"entry {name}: expected a C-ordered array of int8 or int32, found {dtype}")
    size = math.prod(shape) * dtype.itemsize
    if size != len(data) - stream.tell():
        raise ValueError(f"entry {name}: its header says {size} bytes, found {len(data) - stream.tell()}")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).astype(_DTYPES[dtype.str])


def _layer(archive: zipfile.ZipFile, index: int, kind: int) -> Layer:
    if not 0 <= kind < len(_KINDS):
        raise ValueError(f"layer {index}: unknown kind {kind}")
    cls = _KINDS[kind]
    geometry = _read_entry(archive, f"{index}.geometry")
    if geometry.shape != (_GEOMETRY_LENGTH[cls],):
        raise ValueError(f"layer {index}: expected {_GEOMETRY_LENGTH[cls]} numbers of geometry, found {geometry.shape}")
    numbers = geometry.tolist()
    if cls in (MaxPool, AvgPool):
        return cls(*numbers)
    arrays = [_read_entry(archive, f"{index}.{part}") for part in ("weights", "bias", "shift")]
    if cls is Dense:
        return Dense(*arrays, bits=numbers[0] or None)
    return cls(*arrays, bits=numbers[0], stride=numbers[1], pad=numbers[2:])


def loads(data: bytes) -> Network:
    """The network in the bytes of a `mandatory.npz`; ValueError, saying what is wrong, on anything else."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            total = sum(info.file_size for info in infos)
            if total > MAX_FILE_BYTES or len(infos) > 4 * MAX_LAYERS + 4:
                raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes, found {total} in {len(infos)} entries")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise ValueError("expected entries stored without compression")
            version = _read_entry(archive, "format")
            if version.shape != () or version != FORMAT:
                raise ValueError(f"format: expected {FORMAT}, found {version.tolist()}")
            kinds = _read_entry(archive, "kinds")
            shape = _read_entry(archive, "input_shape")
            logit_shift = _read_entry(archive, "logit_shift")
            if kinds.ndim != 1 or len(kinds) > MAX_LAYERS or shape.shape != (3,) or logit_shift.shape != ():
                raise ValueError("kinds, input_shape or logit_shift have the wrong shape")
            layers = [_layer(archive, index, kind) for index, kind in enumerate(kinds.tolist())]
            return Network(shape.tolist(), layers, int(logit_shift))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"not a ternary network file: {error}") from error


def load(path: str | os.PathLike[str]) -> Network:
    """The network in a file; ValueError, naming the file, where it is too big, damaged or not a valid network."""
    size = os.stat(path).st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, found {size}")
    try:
        return loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
