"""Writes a cloud as Houdini's ASCII geometry (.geo): points with attributes, no primitives.

The format is JSON, and every dictionary of it a flat list: key, value, key, value. Which keys
Houdini insists on is not known here, so all that were seen in files of others are written. Values
that go for all points, as `uv_size`, are detail attributes (`globalattributes`).
"""

import json
from typing import Any

import numpy as np
from jaxtyping import Shaped

from houdini_bridge.results.cloud import Cloud, plain

OPTIONS = {
    "P": {"type": {"type": "string", "value": "point"}},
    "Cd": {"type": {"type": "string", "value": "color"}},
}
"""What tells Houdini to transform P, and that Cd is a colour; others need nothing."""


def geo_text(cloud: Cloud, atlas: str) -> str:
    """The file's text, an attribute on each line.

    Args:
        atlas: the atlas's path, from where the .geo lies.
    """
    points = [_numeric(name, values) for name, values in cloud.values.items()]
    points.append(_string("class_name", cloud.class_names, cloud["pred"]))
    detail = [
        _numeric("uv_size", cloud.uv_size[None]),
        _string("atlas", (atlas,), np.zeros(1, np.int32)),
    ]
    head = {
        "fileversion": "18.5.408",  # an old one: that newer Houdinis read it is [?]
        "hasindex": False,
        "pointcount": len(cloud),
        "vertexcount": 0,
        "primitivecount": 0,
        "info": {"software": "ML Learning Lab"},
        "topology": ["pointref", ["indices", []]],
    }
    parts = [f"{_json(key)},{_json(value)}" for key, value in head.items()]
    attributes = f'"pointattributes",{_lines(points)},\n"globalattributes",{_lines(detail)}'
    parts += [f'"attributes",[{attributes}]', '"primitives",[]']
    return "[" + ",\n".join(parts) + "]\n"


def _numeric(name: str, values: Shaped[np.ndarray, "N ..."]) -> list[Any]:
    size = 1 if values.ndim == 1 else values.shape[1]
    storage, wide = ("fpreal32", "fpreal64") if values.dtype.kind == "f" else ("int32", "int64")
    held = ["tuples", plain(values)] if size > 1 else ["arrays", [plain(values)]]
    return [
        _definition("numeric", name),
        [
            *("size", size, "storage", storage),
            *("defaults", ["size", 1, "storage", wide, "values", [0]]),
            *("values", ["size", size, "storage", storage, *held]),
        ],
    ]


def _string(name: str, strings: tuple[str, ...], indices: Shaped[np.ndarray, "N"]) -> list[Any]:
    """A table of strings, and for each point which of them."""
    held = ["size", 1, "storage", "int32", "arrays", [plain(indices)]]
    return [
        _definition("string", name),
        ["size", 1, "storage", "int32", "strings", list(strings), "indices", held],
    ]


def _definition(kind: str, name: str) -> list[Any]:
    options = OPTIONS.get(name, {})
    return ["scope", "public", "type", kind, "name", name, "options", options]


def _lines(attributes: list[Any]) -> str:
    return "[\n" + ",\n".join(map(_json, attributes)) + "]"


def _json(value: Any) -> str:
    # Names stay UTF-8, not \u0000 escapes [?]. NaN is not JSON and must not be written.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
