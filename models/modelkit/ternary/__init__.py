"""Ternary networks: definition (`layers`, `network`), result (`reference`), engine (`kernel`), files (`npz`, `tflite`, `qonnx_io`,
`qcdq`) and the check that all give the same bits (`engines`). The definition, the result, the engine and `npz` need NumPy and
attrs only; the others import what they need when called.
"""
