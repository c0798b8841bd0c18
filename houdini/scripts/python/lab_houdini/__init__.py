"""The synthetic digits as a Houdini scene. Standard library only: it runs in Houdini's own Python.

`plan` says what the scene consists of, as data; `seam` carries that out and is the one module that
imports `hou`; `vex` holds the wrangles; `build_scene` is the command line for hython.
"""
