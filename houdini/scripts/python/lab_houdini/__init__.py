"""The lab in Houdini. Standard library only: it runs in Houdini's own Python.

A scene is data first (`plan`, `results_plan`); `seam` carries it out and is the one module that
imports `hou`. `vex` and `results_vex` hold the wrangles; `table`, `result` and `onnx_file` read
what the lab wrote; `build_scene` and `build_results` are the command lines for hython; `browse` and
`panel` are the Python panel.
"""
