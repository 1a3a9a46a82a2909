"""Texts of the vendor's flow: Tcl and the README of a project. `@WORD@` is replaced by `vendor.scripts`."""

HLS = """\
# C++ to an IP: csim on the test data, synthesis, export. Run in this directory (README.txt).
open_project -reset @NAME@_prj
set_top @NAME@_axi
add_files firmware/@NAME@.cpp -cflags "-std=c++0x"
add_files firmware/@NAME@_axi.cpp -cflags "-std=c++0x"
add_files -tb @NAME@_test.cpp -cflags "-std=c++0x"
add_files -tb firmware/weights
add_files -tb tb_data
open_solution -reset solution1@FLOW@
catch {config_array_partition -maximum_size 4096}
config_compile -name_max_length 80
# hls4ml's line buffers count in static variables: the reset has to reach them
config_rtl -reset state
set_part @PART@
config_schedule -enable_dsp_full_reg=false
create_clock -period @CLOCK_NS@ -name default
set_clock_uncertainty @UNCERTAINTY@ default
csim_design
csynth_design
export_design -format ip_catalog -version 1.0.0
exit
"""

PROJECT = """\
# read by block_design.tcl
variable project_name
set project_name "@NAME@"
variable part
set part "@PART@"
variable bit_width_hls_input
set bit_width_hls_input 32
variable bit_width_hls_output
set bit_width_hls_output 32
"""

BITSTREAM = """\
# The synthesised C++ in core.v, in the shell (shell.v, top module edgert_top), to a bitstream. Run in this directory (README.txt).
set verilog @NAME@_prj/solution1/syn/verilog
create_project -in_memory -part @PART@
foreach data [glob -nocomplain $verilog/*.dat] { file copy -force $data . }
read_verilog [concat shell.v core.v [glob $verilog/*.v]]
foreach ip [glob -nocomplain $verilog/*.tcl] { source $ip }
read_xdc edgert.xdc
synth_design -top edgert_top -part @PART@
create_clock -name clk -period @CLOCK_NS@ [get_pins @CLOCK_PIN@]
opt_design
place_design
phys_opt_design
route_design
report_utilization -hierarchical -file util.rpt
report_timing_summary -file timing.rpt
foreach kind {setup hold} {
    if {[get_property SLACK [get_timing_paths -$kind]] < 0} {
        puts "ERROR: $kind is not met at @CLOCK_MHZ@ MHz (timing.rpt); make the project again with a lower --clock-mhz"
        exit 1
    }
}
write_bitstream -force @NAME@.bit
# the description with the bitstream's name, as PYNQ wants it
set in [open edgert.hwh]
set out [open @NAME@.hwh w]
puts -nonewline $out [read $in]
close $in
close $out
exit
"""

README = """\
@NAME@: a ternary network as an hls4ml project (backend @BACKEND@) for @BOARD@ (@PART@), @CLOCK_MHZ@ MHz

This directory was generated. Its C++ was compiled for a processor and compared with the reference (hls.json, "emulation"). It was
generated, never synthesised: no vendor tool was at hand, and no figure of area or speed is known.

Everything, with the tools on PATH:

    edgert hw build .

or by hand, in this directory, with @VERSIONS@:

@COMMANDS@

The first step compiles the test bench and runs it, synthesises, and exports the IP to @NAME@_prj/solution1/impl/ip. The second makes
@NAME@.bit and @NAME@.hwh, for edgert's driver: docs/gateware.md has the registers. Instead of the second, for PYNQ's own DMA driver,
hls4ml's block design with the same IP, at the clock of the board's preset (Vivado needs the board's files):

    vivado -mode batch -source block_design.tcl

What lies here:

    firmware/                 hls4ml's C++; @NAME@_axi.h, .cpp: AXI4-Stream, four uint8 to a beat in, four int8 logits to a beat out
    core.v                    module core around the synthesised @NAME@_axi
    shell.v, edgert.xdc, edgert.hwh    registers, DMA, processor; what PYNQ reads beside the bitstream
    @NAME@_test.cpp, tb_data/ test bench, its frames and logits
    hls.tcl, bitstream.tcl    the two steps; block_design.tcl, project.tcl: hls4ml's block design
    emulation.cpp             the same C++ as a library:
                              @EMULATION@
    mandatory.npz             the network; frames.npz: what the emulation was compared on
    hls.json                  strategy and reuse of each layer, hashes, what the emulation gave
    hls4ml.log                what hls4ml said
"""
