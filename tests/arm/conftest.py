"""Emulated Arm machines. Run by `make test-arm`, as root, in a mount namespace of its own."""

import pytest
from arm_machine import ArmMachine


def machine_of(kind, tmp_path_factory):
    machine = ArmMachine(kind, tmp_path_factory.mktemp(kind) / "keys")
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def arm64(tmp_path_factory):
    """A Raspberry Pi 4: Debian 12, its Python 3.11 and NumPy, and `fashion` deployed."""
    yield from machine_of("arm64", tmp_path_factory)


@pytest.fixture(scope="session")
def armhf(tmp_path_factory):
    """A Cortex-A9, as on a PYNQ-Z2, with Debian 12."""
    yield from machine_of("armhf", tmp_path_factory)
