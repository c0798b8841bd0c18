"""What holds for the plan of any scene: types and parameters, the graph, its VEX as text."""

import re

from catalogue import BUTTON, CATALOGUE, FLOAT, INT, SCENE, STRING, TOGGLE, Parm
from lab_houdini.plan import Node, Plan, Press
from lab_houdini.table import KINDS

FUNCTIONS = """
    abs addpoint addprim addvertex ceil chs clamp cos dot error exp findattribval
    findattribvalcount float getbbox_center getbbox_size int len length log max min npoints
    nprimitives point pow primpoint primvertexcount radians rand rawcolormap removepoint rint set
    setpointattrib setprimattrib sin sqrt tan warning if for
"""
KEYWORDS = """
    break bsdf char color const continue do dict else export false float for forpoints foreach
    gather hpoint if illuminance import int integer matrix matrix2 matrix3 normal point return
    string struct true typedef uniform union vector vector2 vector4 void while
"""
BUILT_IN = {"P", "Cd", "ptnum", "primnum", "Frame"}  # attributes that are there without being made
IMPORTED = {  # what `import` writes into its .geo
    *("P", "Cd", "uv", "pscale", "confidence", "image", "label", "pred", "variant", "correct"),
    *("ink", "class_name"),
}
LEADS = ("objpath1", "soppath", "roppath", "topscheduler", "coppath", "shop_materialpath1")
"""Parameters that hold the path of a node."""


def misfits(plan: Plan) -> list[str]:
    """What the catalogue does not know, or not so."""
    found = []
    for node in plan.nodes:
        fact = CATALOGUE.get((node.category, node.type))
        if fact is None:
            found.append(f"{node.path}: no type {node.category}/{node.type}")
            continue
        if fact.inputs is not None and len(node.inputs) > fact.inputs:
            found.append(f"{node.path}: {len(node.inputs)} inputs")
        for name, value in node.parms.items():
            if name not in fact.parms:
                found.append(f"{node.path}: no parameter {name}")
            elif not fits(fact.parms[name], value):
                found.append(f"{node.path}: {name} does not take {value!r}")
    return found


def fits(parm: Parm, value) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != parm.size or isinstance(value, tuple) != (parm.size > 1):
        return False
    if isinstance(parm.kind, tuple):
        return value in parm.kind
    kinds = {INT: int, FLOAT: float, STRING: str, TOGGLE: int, BUTTON: Press}
    return all(type(v) is kinds[parm.kind] for v in values)


def check_graph(plan: Plan) -> None:
    """Nodes come after what they need, in networks that take them; so there is no cycle either.
    Paths in parameters lead to nodes."""
    made: dict[str, Node] = {}
    for node in plan.nodes:
        inside = (
            SCENE.get(node.parent)
            or CATALOGUE[made[node.parent].category, made[node.parent].type].children
        )
        assert node.category == inside, node.path
        assert node.path not in made
        assert re.fullmatch(r"\w+", node.name)
        for source in node.inputs:
            assert source is None or (source in made and made[source].parent == node.parent)
        made[node.path] = node
    for node in plan.nodes:
        for name in LEADS:
            if name in node.parms:
                target = str(node.parms[name])
                if target.startswith("../"):
                    target = f"{node.parent}/{target[3:]}"
                assert target in made, f"{node.path}/{name}"


def wrangles(plan: Plan) -> list[Node]:
    return [node for node in plan.nodes if node.type == "attribwrangle"]


def check_vex_text(plan: Plan) -> None:
    """Balanced, of known functions, nothing that Houdini would expand."""
    for node in wrangles(plan):
        snippet = node.parms["snippet"]
        assert not set(snippet) & set("$`"), node.path
        code = re.sub(r'"[^"\n]*"|//[^\n]*', "", snippet)
        for pair in ("()", "[]", "{}"):
            assert code.count(pair[0]) == code.count(pair[1]), node.path
        assert set(re.findall(r"\b(\w+)\(", code)) <= set(FUNCTIONS.split()), node.path
        declared = re.findall(r"\b(?:int|float|string|vector|matrix3) (\w+)", code)
        assert not set(declared) & set(KEYWORDS.split()), node.path


def check_attributes(plan: Plan) -> None:
    """VEX reads no attribute that nothing has written. Follows inputs back: an attribute is the
    node's own, or of a node that flows into it."""
    made = {node.path: node for node in plan.nodes}

    def available(path: str) -> set[str]:
        node = made[path]
        if node.type in ("python", "file", "onnx"):
            outputs = {str(v) for name, v in node.parms.items() if name.startswith("output_data")}
            return {"python": set(KINDS), "file": IMPORTED, "onnx": outputs}[node.type]
        flows = [str(node.parms["objpath1"])] if "objpath1" in node.parms else node.inputs
        names = set().union(*(available(source) for source in flows if source))
        if node.type == "copytopoints":
            target, taken = available(node.inputs[1]), set(node.parms["applyattribs1"].split())
            assert taken | {node.parms["idattrib"]} <= target | BUILT_IN, node.path
            names = available(node.inputs[0]) | taken
        if node.type == "attribwrangle":
            names = available(node.inputs[0]) if node.inputs else set()
            names |= written(node.parms["snippet"])
        return names

    for node in plan.nodes:
        for number in (1, 2):
            if f"input_data{number}" in node.parms:
                assert node.parms[f"input_data{number}"] in available(node.inputs[0])
        if node.type == "copytopoints":
            available(node.path)
    for node in wrangles(plan):
        snippet = node.parms["snippet"]
        first = available(node.inputs[0]) if node.inputs else set()
        own = set(re.findall(r"@(\w+)\b(?!\s*=[^=])", snippet))
        assert own <= first | written(snippet) | BUILT_IN, node.path
        for reader in (r'\bpoint\((\d), "(\w+)"', r'findattribval\w*\((\d), "\w+", "(\w+)"'):
            for wire, name in re.findall(reader, snippet):
                source = available(node.inputs[int(wire)])
                assert name in source | BUILT_IN, f"{node.path} reads {name} of input {wire}"


def written(snippet: str) -> set[str]:
    names = re.findall(r"@(\w+)\s*=(?!=)", snippet)
    return {*names, *re.findall(r'set(?:point|prim)attrib\(0, "(\w+)"', snippet)}
