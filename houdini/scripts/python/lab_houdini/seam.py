"""The seam to Houdini: carries a plan out. The one module here that imports `hou`.

Checked with mypy against types-houdini, which knows methods but neither node types nor parameters:
those are strings to it. A catalogue in the tests holds them, and `build` reports all that this
Houdini does not know in one go.
"""

from pathlib import Path
from typing import cast

import hou

from lab_houdini.plan import Node, Plan, Press, Value
from lab_houdini.table import KINDS, SceneError, columns


def build(plan: Plan) -> None:
    """Make the plan's nodes in the open scene: nodes, then parameters, wires, flags and layout.

    Raises:
        SceneError: the scene holds one of the nodes already, or this Houdini lacks a node type or
            a parameter. Whatever could be made is made then, to be looked at.
    """
    taken = [node.path for node in plan.nodes if hou.node(node.path) is not None]
    if taken:
        raise SceneError(f"the scene has a node {taken[0]} already: start from an empty scene")
    version = hou.applicationVersionString()
    made: dict[str, hou.OpNode] = {}
    for node in plan.nodes:
        made[node.path] = _create(node, version)
    misfits = []
    for node in plan.nodes:
        for name, value in node.parms.items():
            if problem := _set(made[node.path], name, value):
                misfits.append(f"{node.path}/{name}: {problem}")
    for node in plan.nodes:
        for index, source in enumerate(node.inputs):
            if source is not None:
                made[node.path].setInput(index, made[source], 0)
    for node in plan.nodes:
        if node.display is not None:
            _show(made[node.path], node.display)
    for path in dict.fromkeys(node.parent for node in plan.nodes):
        if (parent := hou.node(path)) is not None:
            parent.layoutChildren()
    if misfits:
        raise SceneError(f"Houdini {version} does not take: " + "; ".join(misfits))


def _create(node: Node, version: str) -> hou.OpNode:
    parent = hou.node(node.parent)
    if parent is None:
        raise SceneError(f"Houdini {version} has no {node.parent} to put {node.name} into")
    made = parent.node(node.name)  # a TOP network comes with its scheduler
    if made is None:
        try:
            made = parent.createNode(node.type, node.name)
        except hou.OperationFailed as error:
            raise SceneError(
                f"Houdini {version} has no {node.category} node type {node.type}: "
                f"{error.instanceMessage()}"
            ) from error
    kind = made.type()
    found = (kind.category().name(), kind.nameComponents()[2], made.name())
    if found != (node.category, node.type, node.name):
        raise SceneError(f"asked Houdini {version} for {node}, got {' '.join(found)}")
    return cast("hou.OpNode", made)  # createNode is typed as the base Node, which has no parameters


def _set(node: hou.OpNode, name: str, value: Value) -> str:
    """Set a parameter; what went wrong, in words, or nothing."""
    parm = node.parmTuple(name) if isinstance(value, tuple) else node.parm(name)
    if parm is None:
        return "no such parameter"
    if isinstance(value, Press):
        return _press(node, name)
    if isinstance(parm, hou.ParmTuple) and isinstance(value, tuple) and len(parm) != len(value):
        return f"{len(parm)} components, not {len(value)}"
    try:
        parm.deleteAllKeyframes()  # frame ranges come as $FSTART and $FEND; set() leaves those
        parm.set(value)  # type: ignore[arg-type]  # a tuple to a tuple, a scalar to a scalar
    except (hou.Error, TypeError) as error:
        return f"{value!r} refused ({error})"
    return ""


def _press(node: hou.OpNode, name: str) -> str:
    button = node.parm(name)
    try:
        if button is not None:
            button.pressButton()
    except hou.Error as error:
        return f"would not be pressed ({error})"
    return ""


def _show(node: hou.OpNode, on: bool) -> None:
    if isinstance(node, hou.SopNode):
        node.setDisplayFlag(on)
        node.setRenderFlag(on)
    elif isinstance(node, (hou.ObjNode, hou.TopNode)):
        node.setDisplayFlag(on)


def save(hip: Path) -> Path:
    """Save the open scene; where it went, since a licence may change the file's extension.

    Raises:
        SceneError: the folder is missing or may not be written to.
    """
    try:
        hou.hipFile.save(hip.absolute().as_posix())
    except hou.OperationFailed as error:
        raise SceneError(f"cannot save {hip}: {error.instanceMessage()}") from error
    return Path(hou.hipFile.path())


def cook(plan: Plan) -> None:
    """Render and cut everything, and wait for it. Save first: the jobs read the scene's file.

    Raises:
        SceneError: sheets are missing afterwards. PDG itself raises nothing.
    """
    last = hou.node(plan.cook)
    if last is None:
        raise SceneError(f"the scene has no {plan.cook}: build it first")
    cast("hou.TopNode", last).cookWorkItems(block=True)
    missing = [sheet for sheet in plan.sheets if not sheet.is_file()]
    if missing:
        raise SceneError(
            f"{len(missing)} of {len(plan.sheets)} sheets are missing, the first {missing[0]}: "
            f"look at the red work items of {plan.cook} and the nodes before it"
        )


def fill_table(node: hou.Node, path: str) -> None:
    """Cook a Python SOP: the jitter table as points, one a row, a column an attribute.

    Args:
        node: the Python SOP that is cooking.
        path: of table.csv; may hold $HIP.
    """
    geometry = cast("hou.SopNode", node).geometry()
    if geometry is None:
        raise SceneError(f"{node.path()} is not cooking")
    values = columns(Path(hou.text.expandString(path)))
    geometry.createPoints([(0.0, 0.0, 0.0)] * len(values["seed"]))
    for name, kind in KINDS.items():
        geometry.addAttrib(hou.attribType.Point, name, kind())
        if kind is int:
            geometry.setPointIntAttribValues(name, values[name])
        elif kind is float:
            geometry.setPointFloatAttribValues(name, values[name])
        else:
            geometry.setPointStringAttribValues(name, values[name])


def set_snippet(path: str, snippet: str) -> bool:
    """Give a wrangle another snippet; False where the scene has no such node."""
    node = hou.node(path)
    parm = None if node is None else cast("hou.OpNode", node).parm("snippet")
    if parm is None:
        return False
    parm.set(snippet)
    return True


def go_to(frame: int) -> None:
    """Move the timeline."""
    hou.setFrame(float(frame))


def ask_for(title: str, pattern: str) -> Path | None:
    """A file dialog; None where it was closed."""
    chosen = hou.ui.selectFile(title=title, pattern=pattern)
    return Path(hou.text.expandString(chosen)) if chosen else None


def tell(message: str) -> None:
    """A message window."""
    hou.ui.displayMessage(message)
