"""A strict, recording stand-in for `hou`, made from the catalogue.

It knows the node types, parameters and methods that the seam may use and nothing else: whatever is
missing raises. It proves order and wiring of the calls, never that a node cooks.

    hou = FakeHou()                       # a module of its own for every test
    monkeypatch.setitem(sys.modules, "hou", hou)
"""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import catalogue


class Error(Exception):
    """hou.Error."""

    def instanceMessage(self) -> str:
        return str(self)


class OperationFailed(Error):
    """hou.OperationFailed."""


class OpNode:
    """A node: only what a node of its category has."""

    def __init__(self, hou: "FakeHou", parent: str, category: str, kind: str, name: str):
        self._hou, self._path = hou, f"{parent}/{name}"
        self._category, self._kind, self._inputs, self._display = category, kind, {}, None
        self._facts = catalogue.CATALOGUE[category, kind]
        self._parms: dict[str, Parm | ParmTuple] = {}
        for parm, fact in self._facts.parms.items():
            of = ParmTuple if fact.size > 1 else Parm
            self._parms[parm] = of(hou, f"{self._path}/{parm}", fact)

    def path(self) -> str:
        return self._path

    def name(self) -> str:
        return self._path.rpartition("/")[2]

    def type(self) -> Any:
        return SimpleNamespace(
            category=lambda: SimpleNamespace(name=lambda: self._category),
            nameComponents=lambda: ("", "", self._kind, "2.0"),
        )

    def node(self, name: str) -> "OpNode | None":
        return self._hou._nodes.get(f"{self._path}/{name}")

    def createNode(self, kind: str, name: str) -> "OpNode":
        self._hou._log("createNode", self._path, kind, name)
        return self._hou._make(self._path, self._facts.children, kind, name)

    def parm(self, name: str) -> "Parm | None":
        found = self._parms.get(name)
        return found if isinstance(found, Parm) and self._is_there(found) else None

    def parmTuple(self, name: str) -> "Parm | ParmTuple | None":
        found = self._parms.get(name)
        return found if isinstance(found, ParmTuple) else None

    def _is_there(self, parm: "Parm") -> bool:
        return not parm._fact.after or self._parms[parm._fact.after]._pressed

    def setInput(self, index: int, source: "OpNode", output: int) -> None:
        self._hou._log("setInput", self._path, index, source._path, output)
        limit = self._facts.inputs
        if limit is not None and index >= limit:
            raise OperationFailed(f"{self._path} has {limit} inputs")
        if self._path.rpartition("/")[0] != source._path.rpartition("/")[0]:
            raise OperationFailed(f"{source._path} is in another network than {self._path}")
        self._inputs[index] = source._path

    def layoutChildren(self) -> None:
        self._hou._log("layoutChildren", self._path)

    def setDisplayFlag(self, on: bool) -> None:
        self._hou._log("setDisplayFlag", self._path, on)
        self._display = on


class SopNode(OpNode):
    """hou.SopNode."""

    def setRenderFlag(self, on: bool) -> None:
        self._hou._log("setRenderFlag", self._path, on)

    def geometry(self) -> "Geometry":
        return self._hou._geometry


class ObjNode(OpNode):
    """hou.ObjNode."""


class CopNode(OpNode):
    """hou.CopNode."""

    setDisplayFlag = None  # the seam sets none on COPs


class VopNode(OpNode):
    """hou.VopNode."""

    setDisplayFlag = None  # it has none


class TopNode(OpNode):
    """hou.TopNode."""

    def cookWorkItems(self, block: bool = False) -> None:
        self._hou._log("cookWorkItems", self._path, block)
        self._hou._cook()


NODES = {"Sop": SopNode, "Object": ObjNode, "Cop": CopNode, "Top": TopNode, "Vop": VopNode}


class Parm:
    """hou.Parm: refuses values that its kind in the catalogue does not take."""

    def __init__(self, hou: "FakeHou", path: str, fact: catalogue.Parm):
        self._hou, self._path, self._fact = hou, path, fact
        self._value, self._keyed = None, True  # as a frame range comes: set() does nothing then
        self._pressed = False

    def deleteAllKeyframes(self) -> None:
        self._keyed = False

    def set(self, value: Any) -> None:
        self._hou._log("set", self._path, value)
        self._check(value)
        if not self._keyed:
            self._value = value

    def pressButton(self) -> None:
        self._hou._log("pressButton", self._path)
        if self._fact.kind != "button":
            raise OperationFailed(f"{self._path} is no button")
        self._pressed = True

    def _check(self, value: Any) -> None:
        kind = self._fact.kind
        takes = {
            "int": type(value) is int,
            "float": type(value) is float,
            "string": type(value) is str,
            "toggle": type(value) is int and value in (0, 1),
            "button": False,
        }
        if not (value in kind if isinstance(kind, tuple) else takes[kind]):
            raise TypeError(f"{value!r} is no {kind}")


class ParmTuple(Parm):
    """hou.ParmTuple."""

    def __len__(self) -> int:
        return self._fact.size

    def _check(self, value: Any) -> None:
        if len(value) != self._fact.size:
            raise TypeError(f"{len(value)} values for {self._fact.size} components")
        for component in value:
            super()._check(component)


class Geometry:
    """hou.Geometry, as far as the Python SOP writes it."""

    def __init__(self) -> None:
        self.count, self.attributes, self.values = 0, {}, {}

    def createPoints(self, places: list) -> None:
        self.count += len(places)

    def addAttrib(self, kind: str, name: str, default: Any) -> None:
        self.attributes[name] = (kind, type(default))

    def setPointIntAttribValues(self, name: str, values: list) -> None:
        self._set(int, name, values)

    def setPointFloatAttribValues(self, name: str, values: list) -> None:
        self._set(float, name, values)

    def setPointStringAttribValues(self, name: str, values: list) -> None:
        self._set(str, name, values)

    def _set(self, kind: type, name: str, values: list) -> None:
        if self.attributes[name] != ("Point", kind) or {type(v) for v in values} - {kind}:
            raise TypeError(name)
        if len(values) != self.count:
            raise OperationFailed(f"{len(values)} values for {self.count} points")
        self.values[name] = list(values)


class FakeHou(ModuleType):
    """The module. `calls` holds what was called, in order, as (method, path, arguments...)."""

    Error, OperationFailed = Error, OperationFailed
    OpNode, SopNode, ObjNode, TopNode = OpNode, SopNode, ObjNode, TopNode
    Parm, ParmTuple, Node = Parm, ParmTuple, OpNode
    attribType = SimpleNamespace(Point="Point")

    def __init__(self) -> None:
        super().__init__("hou")
        self.calls: list[tuple] = []
        self._nodes: dict[str, OpNode | SimpleNamespace] = {}
        self._geometry, self._cook = Geometry(), lambda: None
        self._hip, self.said, self.chosen = "untitled.hip", [], {}
        for path, children in catalogue.SCENE.items():
            self._nodes[path] = self._root(path, children)
        self.hipFile = SimpleNamespace(save=self._save, path=lambda: self._hip)
        self.text = SimpleNamespace(expandString=self._expand)
        self.ui = SimpleNamespace(
            selectFile=lambda title, pattern: self.chosen.get(pattern, ""),
            displayMessage=self.said.append,
        )

    def _root(self, path: str, children: str) -> Any:
        def create(kind: str, name: str) -> OpNode:
            self._log("createNode", path, kind, name)
            return self._make(path, children, kind, name)

        return SimpleNamespace(
            createNode=create,
            node=lambda name: self._nodes.get(f"{path}/{name}"),
            layoutChildren=lambda: self._log("layoutChildren", path),
        )

    def _make(self, parent: str, category: str, kind: str, name: str) -> OpNode:
        if (category, kind) not in catalogue.CATALOGUE:
            raise OperationFailed(f"Invalid node type name: {kind} in a network of {category}")
        path = f"{parent}/{name}"
        if path in self._nodes:
            raise OperationFailed(f"{path} exists: Houdini would have named this one differently")
        node = self._nodes[path] = NODES[category](self, parent, category, kind, name)
        for child, child_kind in node._facts.comes_with.items():
            self._make(path, node._facts.children, child_kind, child)
        return node

    def _log(self, *call: Any) -> None:
        self.calls.append(call)

    def _save(self, path: str) -> None:
        if not Path(path).parent.is_dir():
            raise OperationFailed("Failed to save")
        self._log("save", path)
        self._hip = path.replace(".hip", ".hipnc")  # as a non-commercial licence does

    def _expand(self, text: str) -> str:
        return text.replace("$HIP", str(Path(self._hip).parent))

    def node(self, path: str) -> Any:
        return self._nodes.get(path)

    def setFrame(self, frame: float) -> None:
        self._log("setFrame", frame)

    def applicationVersionString(self) -> str:
        return "0.0.0 (fake)"
