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
# IP to a bitstream. With shell.v (top module edgert_top, registers and DMA of docs/gateware.md) around core.v; without it in hls4ml's
# block design with an AXI DMA, at the clock of the board's preset.
if {![file exists shell.v]} {
    source block_design.tcl
    report_timing_summary -file timing.rpt
    exit
}
set verilog @NAME@_prj/solution1/syn/verilog
create_project -in_memory -part @PART@
foreach data [glob -nocomplain $verilog/*.dat] { file copy -force $data . }
read_verilog [concat [glob shell*.v] core.v [glob $verilog/*.v]]
foreach ip [glob -nocomplain $verilog/*.tcl] { source $ip }
read_xdc edgert.xdc
synth_design -top edgert_top -part @PART@
opt_design
place_design
phys_opt_design
route_design
report_utilization -hierarchical -file util.rpt
report_timing_summary -file timing.rpt
if {[get_property SLACK [get_timing_paths -setup]] < 0 || [get_property SLACK [get_timing_paths -hold]] < 0} {
    puts "ERROR: timing is not met at @CLOCK_MHZ@ MHz (timing.rpt); make the project again with a lower --clock-mhz"
    exit 1
}
write_bitstream -force @NAME@.bit
set in [open edgert.hwh]
set out [open @NAME@.hwh w]
puts -nonewline $out [read $in]
close $in
close $out
exit
"""

README = """\
@NAME@: a ternary network as an hls4ml project (backend @BACKEND@) for @BOARD@ (@PART@), @CLOCK_MHZ@ MHz

This directory was generated. Its C++ was compiled for a processor and gave the reference's logits (hls.json, "emulation"). It has not been
synthesised: no vendor tool was at hand, and no figure of area or speed is known.

Everything, with the tools on PATH:

    edgert hw build .

or by hand, in this directory, with Vitis HLS (Vivado HLS) and Vivado @VERSIONS@:

@HLS@
    @VIVADO@

The first line compiles the test bench, runs it, synthesises, and exports the IP to @NAME@_prj/solution1/impl/ip; where it lists two
commands, either does. The second makes the bitstream. block_design.tcl is hls4ml's own and needs the board's files in Vivado.

What lies here:

    firmware/                 hls4ml's C++; @NAME@_axi.{h,cpp}: AXI4-Stream, four uint8 to a beat in, four int8 logits to a beat out
    core.v                    module core around the synthesised @NAME@_axi, for the shell
    @NAME@_test.cpp, tb_data/  test bench and its frames and logits
    hls.tcl, bitstream.tcl    the two steps; block_design.tcl, project.tcl: used where there is no shell.v
    emulation.cpp             the same C++ as a library:
                              @EMULATION@
    mandatory.npz             the network; frames.npz: what the emulation was compared on
    hls.json                  strategy and reuse of each layer, hashes, what the emulation gave
    hls4ml.log                what hls4ml said
"""
