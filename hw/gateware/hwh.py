"""The hardware description (`.hwh`) that PYNQ reads beside a bitstream: one IP on the processor's bus, its address, clock and interrupt.

Written as text, no vendor tool: PYNQ finds the IP in `Overlay.ip_dict` under `edgert` with type `VLNV`, to which a driver binds
(`bindto = [hwh.VLNV]`), sets the clocks from the processor's parameters, and on UltraScale+ the widths of its ports.
"""

from __future__ import annotations

from xml.etree import ElementTree

from gateware.boards import Board, Clock

VLNV = "edgert:ip:edgert:1.0"
INSTANCE = "edgert"
RANGE = 4096
SIGNALS = ("ARADDR", "ARREADY", "ARVALID", "AWADDR", "AWREADY", "AWVALID", "BREADY", "BVALID", "RDATA", "RREADY", "RVALID", "WDATA",
           "WREADY", "WVALID")
DRIVEN_BY_MASTER = {"ARADDR", "ARVALID", "AWADDR", "AWVALID", "BREADY", "RREADY", "WDATA", "WVALID"}
REGISTERS = {"ID": 0x00, "VERSION": 0x04, "BOARD": 0x08, "CLOCK_HZ": 0x0C, "FRAME_BYTES": 0x30, "ANSWER_BYTES": 0x34, "CLOCK": 0x38,
             "CONTROL": 0x40, "STATUS": 0x44, "ERRORS": 0x48, "ACK": 0x4C, "IRQ_ENABLE": 0x50, "WINDOW_LOW": 0x54, "WINDOW_HIGH": 0x58,
             "TIMEOUT": 0x5C,
             "SOURCE0": 0x60, "TARGET0": 0x64, "SOURCE1": 0x68, "TARGET1": 0x6C, "CYCLES0": 0x70, "CYCLES1": 0x74, "ANSWERS": 0x78,
             **{f"MODEL{i}": 0x10 + 4 * i for i in range(8)}}
READ_WRITE = {"CONTROL", "ERRORS", "ACK", "IRQ_ENABLE", "WINDOW_LOW", "WINDOW_HIGH", "TIMEOUT", "SOURCE0", "TARGET0", "SOURCE1", "TARGET1"}


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    """A child `tag`."""
    return ElementTree.SubElement(parent, tag, attributes)


def _bus(module: ElementTree.Element, ports: ElementTree.Element, name: str, kind: str, master: bool, net: str) -> None:
    """One AXI interface of `module`, with the ports that it is made of, on the nets of `net`."""
    interfaces = module.find("BUSINTERFACES")
    assert interfaces is not None
    role = "MASTER" if master else "SLAVE"
    bus = _add(interfaces, "BUSINTERFACE", BUSNAME=net, NAME=name, TYPE=role, VLNV="xilinx.com:interface:aximm:1.0")
    _add(_add(bus, "PARAMETERS"), "PARAMETER", NAME="DATA_WIDTH", VALUE="32" if kind == "registers" else "64")
    maps = _add(bus, "PORTMAPS")
    for signal in SIGNALS:
        out = (signal in DRIVEN_BY_MASTER) == master
        _add(ports, "PORT", DIR="O" if out else "I", NAME=f"{name}_{signal}", SIGIS="undef", SIGNAME=f"{net}_{signal}")
        _add(maps, "PORTMAP", LOGICAL=signal, PHYSICAL=f"{name}_{signal}")


def _module(modules: ElementTree.Element, instance: str, vlnv: str, kind: str, in_fabric: bool) -> ElementTree.Element:
    """A module's frame: its parts are filled in by the caller."""
    module = _add(modules, "MODULE", COREREVISION="1", FULLNAME=f"/{instance}", HWVERSION=vlnv.rpartition(":")[2], INSTANCE=instance,
                  IPTYPE="PERIPHERAL",
                  IS_ENABLE="1", IS_PL="TRUE" if in_fabric else "FALSE", MODCLASS="PERIPHERAL", MODTYPE=kind, VLNV=vlnv)
    if in_fabric:
        blocks = _add(module, "ADDRESSBLOCKS")
        block = _add(blocks, "ADDRESSBLOCK", ACCESS="read-write", INTERFACE="S_AXI", NAME="registers", RANGE=str(RANGE), USAGE="register")
        registers = _add(block, "REGISTERS")
        for register, offset in sorted(REGISTERS.items(), key=lambda item: item[1]):
            entry = _add(registers, "REGISTER", NAME=register)
            for key, value in (("DESCRIPTION", register), ("ADDRESS_OFFSET", f"0x{offset:02X}"), ("SIZE", "32"),
                               ("ACCESS", "read-write" if register in READ_WRITE else "read-only"), ("IS_ENABLED", "true")):
                _add(entry, "PROPERTY", NAME=key, VALUE=value)
            _add(entry, "FIELDS")
    _add(module, "PARAMETERS")
    _add(module, "PORTS")
    _add(module, "BUSINTERFACES")
    return module


def description(board: Board, clock: Clock, model_id: str) -> str:
    """The text of the `.hwh`."""
    about = board.processor
    root = ElementTree.Element("EDKSYSTEM", EDWVERSION="1.2", TIMESTAMP="", VIVADOVERSION="2022.1")
    device, package, speed = board.pieces
    _add(root, "SYSTEMINFO", ARCH="zynq" if board.len_bits == 4 else "zynquplus", DEVICE=device, NAME="edgert", PACKAGE=package,
         SPEEDGRADE=speed)
    _add(root, "EXTERNALPORTS")
    _add(root, "EXTERNALINTERFACES")
    modules = _add(root, "MODULES")

    processor = _module(modules, about["INSTANCE"], about["VLNV"], about["MODTYPE"], in_fabric=False)
    accelerator = _module(modules, INSTANCE, VLNV, "edgert_shell", in_fabric=True)
    parameters = processor.find("PARAMETERS")
    assert parameters is not None
    for index in range(4):
        for name, value in zip(board.clock_names, (*(clock.divisors if index == 0 else (1, 1)), int(index == 0))):
            _add(parameters, "PARAMETER", NAME=name.format(index), VALUE=str(value))
    for name, text in board.parameters.items():
        _add(parameters, "PARAMETER", NAME=name, VALUE=text)
    own = accelerator.find("PARAMETERS")
    assert own is not None
    low, high = f"0x{board.register_base:08X}", f"0x{board.register_base + RANGE - 1:08X}"
    for name, text in (("C_S_AXI_BASEADDR", low), ("C_S_AXI_HIGHADDR", high), ("MODEL_ID", model_id), ("CLOCK_HZ", str(clock.hz))):
        _add(own, "PARAMETER", NAME=name, VALUE=text)

    left, right = processor.find("PORTS"), accelerator.find("PORTS")
    assert left is not None and right is not None
    for name, other, kind, net in ((about["clock"], "clk", "clk", "clk"), (about["reset"], "rst_n", "rst", "rst_n")):
        _add(left, "PORT", DIR="O", NAME=name, SIGIS=kind, SIGNAME=f"net_{net}")
        _add(right, "PORT", DIR="I", NAME=other, SIGIS=kind, SIGNAME=f"net_{net}")
    _add(left, "PORT", DIR="I", LEFT="0", NAME=about["interrupt"], RIGHT="0", SENSITIVITY="LEVEL_HIGH", SIGIS="INTERRUPT",
         SIGNAME="net_irq")
    _add(right, "PORT", DIR="O", NAME="irq", SENSITIVITY="LEVEL_HIGH", SIGIS="INTERRUPT", SIGNAME="net_irq")
    _bus(processor, left, about["registers"], "registers", True, "bus_registers")
    _bus(accelerator, right, "S_AXI", "registers", False, "bus_registers")
    _bus(accelerator, right, "M_AXI", "memory", True, "bus_memory")
    _bus(processor, left, about["memory"], "memory", False, "bus_memory")

    memory = _add(processor, "MEMORYMAP")
    _add(memory, "MEMRANGE", ADDRESSBLOCK="registers", BASENAME="C_S_AXI_BASEADDR", BASEVALUE=low,
         HIGHNAME="C_S_AXI_HIGHADDR", HIGHVALUE=high, INSTANCE=INSTANCE, IS_DATA="TRUE", IS_INSTRUCTION="TRUE",
         MASTERBUSINTERFACE=about["registers"], MEMTYPE="REGISTER", SLAVEBUSINTERFACE="S_AXI")
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
