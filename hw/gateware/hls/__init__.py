"""A ternary network as a project for the vendor's HLS tools, made by hls4ml, and its C++ emulation, equal to the reference bit for bit.

Read in this order: `network.py` (layers and types), `wrapper.py` (AXI4-Stream and `core`), `project.py` (the directory), `emulation.py`
(the compiled C++), `vendor.py` (tools that are not part of this). Needs the extra `hw` to write a project, a C++ compiler to emulate it,
and no vendor tool.
"""

from gateware.hls.network import Choice, Plan, Unsupported, check_supported, plans

__all__ = ["Choice", "Plan", "Unsupported", "check_supported", "plans"]
