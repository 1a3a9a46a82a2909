"""The ring of records: what is put comes out, whole and once, or is counted; whatever dies, and whenever."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from edgert.errors import RecordError
from edgert.results.ring import DATA, Ring

PRODUCER = textwrap.dedent("""
    import sys
    from edgert.results.ring import Ring
    ring = Ring(int(sys.argv[1]))
    print("ready", flush=True)
    number = 0
    while number < int(sys.argv[2]):
        if ring.put(number % 3, (number, "x" * (number * 7919 % 300), -number)):
            number += 1
    ring.close()
""")


def drain(ring):
    out = []
    while records := ring.read():
        out += records
    ring.release_read()
    return out


def start_producer(ring, count):
    return subprocess.Popen([sys.executable, "-c", PRODUCER, str(ring.fd), str(count)], pass_fds=[ring.fd], stdout=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def check_sequence(records):
    """Each record is whole, and none is missing or repeated."""
    for index, (kind, fields) in enumerate(records):
        assert (kind, fields) == (index % 3, (index, "x" * (index * 7919 % 300), -index))


def test_records_come_out_as_they_were_put_and_in_order():
    with Ring.create(1 << 16) as ring:
        rows = [(1, (5, 2.5, "ä", None, -(1 << 62))), (2, ()), (3, ([(1, "a")], []))]
        for kind, fields in rows:
            assert ring.put(kind, fields)
        assert drain(ring) == rows
        assert ring.empty and ring.used == 0


def test_random_sizes_wrap_around_the_memory_many_times_without_loss():
    rng = random.Random(1)
    with Ring.create(4096) as ring:
        put, got = [], []
        for number in range(20000):
            fields = (number, "y" * rng.randrange(200))
            if ring.put(number % 5, fields):
                put.append((number % 5, fields))
            if rng.random() < 0.2:
                got += ring.read(rng.randrange(1, 9))
                ring.release_read()
        got += drain(ring)
        assert got == put
        assert len(put) + sum(ring.dropped()) == 20000
        assert sum(ring.dropped()) > 100  # the ring was really full at times


def test_positions_wrap_at_32_bits():
    with Ring.create(4096) as ring:
        near = (1 << 32) - 64
        ring._words[16] = ring._words[64] = ring._next = ring._seen = near
        rows = [(1, (n, "z" * 30)) for n in range(40)]
        for row in rows:
            assert ring.put(*row)
            assert drain(ring) == [row]
        assert ring.position < near


def test_what_does_not_fit_is_counted_by_kind_and_never_waits():
    with Ring.create(4096) as ring:
        results = [(n % 2, ring.put(n % 2, (n, "w" * 100))) for n in range(200)]
        lost = [sum(1 for k, ok in results if k == kind and not ok) for kind in (0, 1)]
        assert min(lost) > 50
        assert ring.dropped()[:2] == lost and ring.lost()[:2] == lost
        kept = [fields[0] for _, fields in drain(ring)]
        assert kept == [n for n, (_, ok) in enumerate(results) if ok]
        assert ring.put(0, (1,))  # there is room again
        assert not ring.put(1, ("v" * 5000,))  # larger than the ring
        assert ring.dropped()[1] == lost[1] + 1


def test_room_is_only_given_back_on_release():
    with Ring.create(4096) as ring:
        while ring.put(0, ("u" * 100,)):
            pass
        ring.read()
        assert not ring.put(0, ("u" * 100,))
        ring.release_read()
        assert ring.put(0, ("u" * 100,))


@pytest.mark.parametrize("flip", [0, 3, 4, 9, 12, 20, 60])
def test_a_record_with_one_wrong_byte_is_not_read(flip):
    with Ring.create(4096) as ring:
        ring.put(1, ("first", 1))
        begin = DATA + ring._next
        ring.put(2, ("second" * 10, 2))
        ring._memory[begin + flip] ^= 0x10
        assert [kind for kind, _ in ring.read()] == [1]
        assert not ring.empty
        ring._memory[begin + flip] ^= 0x10  # the store became visible
        assert ring.read() == [(2, ("second" * 10, 2))]


def test_a_head_seen_before_the_first_record_reads_nothing():
    with Ring.create(4096) as ring:
        ring._words[16] = 64
        assert ring.read() == []


def test_a_stale_record_of_an_earlier_lap_is_not_read_again():
    with Ring.create(4096) as ring:
        sizes = 0
        while sizes < 4096:  # one whole lap, each record read
            ring.put(0, ("t" * 17,))
            drain(ring)
            sizes = ring.position
        ring._words[16] = (ring._next + 64) & 0xFFFFFFFF  # a head that runs ahead of its payload
        assert ring.read() == []


def test_two_processes_pass_every_record():
    with Ring.create(1 << 14) as ring:
        child = start_producer(ring, 20000)
        got = []
        end = time.monotonic() + 60
        while time.monotonic() < end and not (ring.closed and ring.empty):
            got += drain(ring)
        assert child.wait(10) == 0
        assert len(got) == 20000
        check_sequence(got)


@pytest.mark.parametrize("seed", range(6))
def test_a_producer_killed_at_any_moment_leaves_whole_records_only(seed):
    rng = random.Random(seed)
    with Ring.create(1 << 13) as ring:
        child = start_producer(ring, 10**9)
        assert child.stdout.readline() == b"ready\n"
        got = []
        end = time.monotonic() + rng.uniform(0.02, 0.15)
        while time.monotonic() < end:
            got += drain(ring)
        child.send_signal(signal.SIGKILL)
        child.wait()
        got += drain(ring)
        assert ring.empty
        assert len(got) > 10
        check_sequence(got)


def test_nothing_is_left_behind_when_every_holder_is_gone():
    ring = Ring.create(4096)
    link = os.readlink(f"/proc/self/fd/{ring.fd}")
    assert link.startswith("/memfd:") and link.endswith("(deleted)")
    ring.release()


def test_a_file_that_is_no_ring_is_refused(tmp_path):
    for content in (b"", b"x" * 100, b"\0" * 8192):
        path = tmp_path / "f"
        path.write_bytes(content)
        fd = os.open(path, os.O_RDWR)
        with pytest.raises(RecordError):
            Ring(fd)


@pytest.mark.parametrize("capacity", [0, 1000, 5000, 1 << 31])
def test_a_capacity_that_cannot_work_is_refused(capacity):
    with pytest.raises(ValueError, match="power of two"):
        Ring.create(capacity)
