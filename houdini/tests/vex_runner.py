"""Runs the SOPs of a plan: wrangles as C++ (vex_shim.h), the few other nodes as what they do.

cooked = Scene(plan, folder, {"/obj/table/rows", "/obj/digit_3/font_0"}, only, wanted)
value, = cooked.run(1, {"/obj/table/rows": points_file, "/obj/digit_3/font_0": glyph_file})
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from lab_houdini.plan import Node, Plan

COMPILER = shutil.which("g++") or shutil.which("clang++")
TYPES = {"int": "Int", "float": "Float", "string": "Str", "vector": "Vec", "matrix3": "Mat3"}
PREFIX = {"i": "Int", "f": "Float", "s": "Str", "v": "Vec", "3": "Mat3"}
KNOWN = {"P": "Vec", "Cd": "Vec"}  # what VEX knows without a prefix
NUMBERS = {"ptnum": "Int(elem)", "primnum": "Int(elem)", "Frame": "Frame"}


def as_cpp(snippet: str) -> str:
    """VEX as C++ for the shim. Strings and comments stay as they are."""
    parts = re.split(r'("[^"\n]*"|//[^\n]*)', snippet)
    return "".join(part if k % 2 else _code(part) for k, part in enumerate(parts))


def _code(text: str) -> str:
    def attribute(match: re.Match) -> str:
        prefix, name, assigned = match.groups()
        if not prefix and name in NUMBERS:
            return NUMBERS[name] + assigned
        kind = PREFIX[prefix] if prefix else KNOWN[name]  # KeyError: a type would be guessed
        access = "write" if assigned else "read"
        return f'here().{access}<{kind}>("{name}", elem){assigned}'

    text = re.sub(r"\b([ifsv3]?)@(\w+)(\s*=(?!=)|)", attribute, text)
    text = re.sub(r"(?<![\w\"])@(\w+)(\s*=(?!=)|)", lambda m: attribute(_bare(m)), text)
    for vex, cpp in TYPES.items():
        text = re.sub(rf"\b{vex} (\w+)\[\] =", rf"Array<{cpp}> \1 =", text)
        text = re.sub(rf"\b{vex}\b", cpp, text)
    return text


def _bare(match: re.Match) -> re.Match:
    return re.match(r"([ifsv3]?)@(\w+)(\s*=(?!=)|)", match[0])


class Scene:
    """A compiled plan.

    Args:
        folder: for the program and its output.
        only: the nodes whose path starts with one of these.
        loaded: paths of nodes that only Houdini can cook: their geometry comes from files.
        wanted: (node, prefix, name) of the attributes to see: of points, or of primitives where
            the name starts with `prim:`. The prefix "t" gives the vertices: for each primitive
            how many, and which points.
        strings: parameter -> value, of those that wrangles read by `chs`.

    Raises:
        RuntimeError: what the compiler said.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        only: tuple[str, ...],
        loaded: set[str],
        wanted: list[tuple[str, str, str]],
        strings: dict[str, str] | None = None,
    ):
        self.nodes = [n for n in plan.nodes if n.category == "Sop" and n.path.startswith(only)]
        self.folder, self.loaded, self.wanted = folder, sorted(loaded), wanted
        self.strings, self.warnings = strings or {}, ""
        self.program = folder / "scene"
        source = self.program.with_suffix(".cpp")
        source.write_text(self._source())
        self._call(COMPILER, "-O1", "-w", "-I", Path(__file__).parent, source, "-o", self.program)

    def run(self, frame: int, files: dict[str, Path]) -> list[np.ndarray]:
        """Cook a frame; the wanted attributes.

        Raises:
            RuntimeError: what the run said.
        """
        self._call(self.program, frame, *(files[path] for path in self.loaded))
        sizes = {"i": (np.int32, 1), "t": (np.int32, 1), "f": (np.float32, 1), "v": (np.float32, 3)}
        arrays = []
        for k, (_, prefix, _) in enumerate(self.wanted):
            kind, size = sizes[prefix]
            values = np.fromfile(self.folder / f"{k}.bin", kind)
            arrays.append(values.reshape(-1, size) if size > 1 else values)
        return arrays

    def _call(self, *command) -> None:
        done = subprocess.run([str(c) for c in command], capture_output=True, cwd=self.folder)
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        self.warnings = done.stderr.decode()

    def _source(self) -> str:
        functions, steps, cooked = [], [], {}
        for k, node in enumerate(self.nodes):
            if node.type == "attribwrangle":
                functions.append(f"void code_{k}() {{\n{as_cpp(node.parms['snippet'])}}}\n")
            steps.append(f"    Geo g{k} = {self._cooked(k, node, cooked)};")
            cooked[node.path] = f"g{k}"
        for k, (path, prefix, name) in enumerate(self.wanted):
            of, name = ("prims", name[5:]) if name.startswith("prim:") else ("points", name)
            dump = f'dump(file, {cooked[path]}.{of}.{prefix}.at("{name}"))'
            if prefix == "t":
                dump = f"dump_vertices(file, {cooked[path]})"
            steps.append(f'    {{ std::ofstream file("{k}.bin"); {dump}; }}')
        for path, value in self.strings.items():
            steps.insert(0, f"    strings[{json.dumps(path)}] = {json.dumps(value)};")
        body = "\n".join(steps)
        return (
            '#include "vex_shim.h"\n' + "".join(functions) + "int main(int, char** argv) try {\n"
            f"    Frame = std::stod(argv[1]);\n{body}\n}} catch (std::exception& e) {{\n"
            "    std::cerr << e.what(); return 1;\n}\n"
        )

    def _cooked(self, k: int, node: Node, cooked: dict[str, str]) -> str:
        """The expression that cooks a node. KeyError where an input was not cooked before it."""
        wires = [cooked[source] for source in node.inputs]
        all_wires = "{" + ", ".join(f"&{wire}" for wire in wires) + "}"
        if node.path in self.loaded:
            return f"load(argv[{2 + self.loaded.index(node.path)}])"
        if node.type == "attribwrangle":
            return f'wrangle(code_{k}, "{node.parms["class"]}", {all_wires})'
        if node.type == "merge":
            return f"merge({all_wires})"
        if node.type in ("null", "material"):
            return wires[0]
        if node.type == "object_merge":
            return cooked[node.parms["objpath1"]]
        if node.type == "copytopoints":
            assert node.parms["useidattrib"] and node.parms["transform"]
            assert (node.parms["applyto1"], node.parms["applymethod1"]) == ("points", "copy")
            piece, apply = node.parms["idattrib"], node.parms["applyattribs1"]
            return f'copytopoints({wires[0]}, {wires[1]}, "{piece}", "{apply}")'
        raise AssertionError(f"{node} has to come from a file")


def geometry(path: Path, points: dict[str, tuple[str, list]], prims: list[list[int]] = ()) -> Path:
    """Write a file that the shim's `load` reads: name -> (prefix, values), and point numbers."""
    lines = [f"points {len(next(iter(points.values()))[1])}"]
    for name, (prefix, values) in points.items():
        joined = "|".join(values) + "|" if prefix == "s" else " ".join(map(str, values))
        if prefix == "v":
            joined = " ".join(str(c) for point in values for c in point)
        lines.append(f"{prefix} {name} {joined}")
    lines += ["prim " + " ".join(map(str, prim)) for prim in prims]
    path.write_text("\n".join(lines) + "\n")
    return path
