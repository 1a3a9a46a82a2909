"""A ternary network as Verilog: streaming, valid/ready, without a DSP. Start with `docs/gateware.md`, `plan.py`, `blocks/mac.v`."""
