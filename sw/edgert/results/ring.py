"""A ring of records in shared memory: one producer that never waits, one consumer, no lock, no system call.

    words (uint32)   0 magic   1 version   2 capacity in bytes   3 token, random
                    16 head    17 closed   32..47 records dropped, by kind      written by the producer only
                    64 tail    80..95 records lost by the consumer, by kind     written by the consumer only
    from byte 4096   the records, each at a multiple of 16 bytes:  length << 8 | kind,  position,  CRC-32,  payload

`head` and `tail` count bytes modulo 2^32. A record is written first and published by moving `head`, one aligned 32-bit store, so
a producer killed at any instruction leaves either the whole record or none. x86 keeps the order of stores; Arm may show the new
head before the payload, and Python has no barrier: hence each record carries its position and a CRC over all of it.
A published record that does not verify is not read but waited for (the stores of a core become visible in well under a
millisecond). In the other direction control dependencies order what matters on both: the consumer moves `tail` only if the CRC of
what it copied was right, the producer writes only if `tail` left room.

The memory is an anonymous file (`memfd`): it lives while any process holds it, so it survives the producer's `kill -9` and leaves
nothing behind when the last process is gone. It is passed to another process by file descriptor (`subprocess.Popen(pass_fds=...)`).
"""

from __future__ import annotations

import mmap
import os
import struct
from marshal import dumps, loads
from types import TracebackType
from typing import Any
from zlib import crc32

from ..errors import RecordError

KINDS = 16  # kinds of record, 0 to 15
MAGIC, VERSION = 0x474E4952, 1
DATA = 4096  # where the records begin; a page, so that they are aligned
HEADER = 12
_HEAD, _CLOSED, _DROPPED, _TAIL, _LOST = 16, 17, 32, 64, 80
_SKIP = 255  # kind of the filler before the end of the memory
_WRAP = 0xFFFFFFFF
_header = struct.Struct("=III")


class Ring:
    """One ring, seen from the producer's or the consumer's side; the two sides may be in different processes.

    Neither side may be shared between threads. `fd` is its file descriptor.
    """

    def __init__(self, fd: int) -> None:
        """Use the ring behind a file descriptor, which then belongs to it. Raises RecordError where that is no ring."""
        size = os.fstat(fd).st_size
        if size <= DATA:
            raise RecordError(f"file descriptor {fd} holds {size} bytes, expected a ring of more than {DATA}")
        self.fd = fd
        # filled in now: no page fault later
        self._memory = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
        self._words = memoryview(self._memory).cast("I")
        self.capacity = size - DATA
        if list(self._words[:3]) != [MAGIC, VERSION, self.capacity]:
            self.release()
            raise RecordError(f"file descriptor {fd} is no ring of version {VERSION}")
        self._mask = self.capacity - 1
        self._next = self._words[_HEAD]  # producer: where the next record goes
        self._seen = self._words[_TAIL]  # consumer: end of what `read` returned

    @classmethod
    def create(cls, capacity: int = 8 << 20) -> Ring:
        """A new, empty ring for `capacity` bytes of records (a power of two, 4 kB to 1 GB). Raises OSError without the memory."""
        if capacity & (capacity - 1) or not 4096 <= capacity <= 1 << 30:
            raise ValueError(f"capacity: expected a power of two from 4096 to 2^30, found {capacity}")
        fd = os.memfd_create("edgert-ring", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, DATA + capacity)  # the memory is there, or this fails: no SIGBUS later
            os.pwrite(fd, _header.pack(MAGIC, VERSION, capacity) + os.urandom(4), 0)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    # Producer ---------------------------------------------------------------------------------------------------------

    def put(self, kind: int, fields: tuple[Any, ...]) -> bool:
        """Append a record of plain values (int, float, str, None, tuples and lists of them); never waits.

        `kind` is 0 to 15. False: it did not fit; it is dropped and counted by kind. Raises ValueError for what cannot be written.
        NumPy scalars must be converted first: the consumer refuses them.
        """
        payload = dumps(fields, 2)
        length = len(payload)
        size = (length + HEADER + 15) & ~15
        words = self._words
        start = self._next
        offset = start & self._mask
        room = self.capacity - offset
        if (size if size <= room else size + room) > self.capacity - ((start - words[_TAIL]) & _WRAP):
            words[_DROPPED + kind] = (words[_DROPPED + kind] + 1) & _WRAP
            return False
        memory = self._memory
        if size > room:  # a record is never cut in two: fill up to the end of the memory
            word = (room - HEADER) << 8 | _SKIP
            _header.pack_into(memory, DATA + offset, word, start, crc32(b"", start ^ word ^ MAGIC))
            start = (start + room) & _WRAP
            offset = 0
        begin = DATA + offset + HEADER
        memory[begin:begin + length] = payload
        word = length << 8 | kind
        _header.pack_into(memory, DATA + offset, word, start, crc32(payload, start ^ word ^ MAGIC))
        self._next = words[_HEAD] = (start + size) & _WRAP
        return True

    def close(self) -> None:
        """Say that nothing more will be put: the consumer may finish once it has read everything."""
        self._words[_CLOSED] = 1

    # Consumer ---------------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Where the next `read` begins: bytes since the ring was made, modulo 2^32."""
        return self._seen

    def seek(self, position: int) -> None:
        """Go on from a position noted earlier (a consumer that was killed between noting it and `release_read`)."""
        if (position - self._words[_TAIL]) & _WRAP <= (self._words[_HEAD] - self._words[_TAIL]) & _WRAP:
            self._seen = position

    def read(self, limit: int = 1024) -> list[tuple[int, Any]]:
        """Up to `limit` records (kind, fields) that follow those of the last call. They keep their room until `release_read`."""
        out: list[tuple[int, Any]] = []
        head = self._words[_HEAD]
        while self._seen != head and len(out) < limit:
            offset = self._seen & self._mask
            word, position, check = _header.unpack_from(self._memory, DATA + offset)
            kind, length = word & 0xFF, word >> 8
            if position != self._seen or HEADER + length > self.capacity - offset:
                break  # not visible yet
            begin = DATA + offset + HEADER
            payload = b"" if kind == _SKIP else self._memory[begin:begin + length]
            if crc32(payload, position ^ word ^ MAGIC) != check:
                break
            self._seen = (position + ((length + HEADER + 15) & ~15)) & _WRAP
            if kind != _SKIP:
                out.append((kind, loads(payload)))
        return out

    def release_read(self) -> None:
        """Give the room of everything read so far back to the producer."""
        self._words[_TAIL] = self._seen

    def skip(self) -> int:
        """Drop everything published and not yet read, for records that will never verify; returns the bytes dropped."""
        head = self._words[_HEAD]
        dropped = (head - self._seen) & _WRAP
        self._seen = self._words[_TAIL] = head
        return dropped

    def count_lost(self, kind: int, number: int) -> None:
        """Count records that the consumer read and could not keep."""
        self._words[_LOST + kind] = (self._words[_LOST + kind] + number) & _WRAP

    # Both -------------------------------------------------------------------------------------------------------------

    @property
    def token(self) -> int:
        """A random number that tells this ring from others."""
        return self._words[3]

    @property
    def closed(self) -> bool:
        """The producer said that nothing more will come."""
        return self._words[_CLOSED] == 1

    @property
    def empty(self) -> bool:
        """Everything published has been read."""
        return self._words[_HEAD] == self._seen

    @property
    def used(self) -> int:
        """Bytes that hold records not yet given back."""
        return (self._words[_HEAD] - self._words[_TAIL]) & _WRAP

    def dropped(self) -> list[int]:
        """Records that did not fit, by kind."""
        return list(self._words[_DROPPED:_DROPPED + KINDS])

    def lost(self) -> list[int]:
        """Records that did not fit or that the consumer could not keep, by kind."""
        return [d + n for d, n in zip(self.dropped(), self._words[_LOST:_LOST + KINDS])]

    def release(self) -> None:
        """Unmap the memory and close the descriptor; the ring lives on where another process holds it."""
        self._words.release()
        self._memory.close()
        os.close(self.fd)

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
