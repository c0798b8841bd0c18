"""A second reader of ASCII .geo files, from the description of the format and not from our writer.

The format: JSON, in which dictionaries of the header are flat lists of key, value, key, value.
An attribute is a pair: a definition (scope, type, name, ...) and its content. Numbers come as
`arrays` (size 1, one list) or `tuples`; strings as a table and an index a point. It is strict:
every length must be what `pointcount` says, every index in range, every int within int32.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

KEYS = {
    "fileversion", "hasindex", "pointcount", "vertexcount", "primitivecount", "info", "topology",
    "attributes", "primitives",
}  # fmt: skip
STORAGE = {"fpreal32": np.float32, "int32": np.int32}


def flat(pairs: list[Any]) -> dict[str, Any]:
    """A flat list as a dictionary."""
    assert len(pairs) % 2 == 0
    keys = pairs[::2]
    assert all(isinstance(key, str) for key in keys)
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, pairs[1::2], strict=True))


def read(path: Path) -> tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Number of points, point attributes, detail attributes."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    whole = flat(json.loads(path.read_text("utf-8"), parse_constant=refuse))
    assert set(whole) >= KEYS
    assert (whole["vertexcount"], whole["primitivecount"]) == (0, 0)
    assert flat(flat(whole["topology"])["pointref"])["indices"] == []
    assert whole["primitives"] == []
    count = whole["pointcount"]
    attributes = flat(whole["attributes"])
    assert set(attributes) == {"pointattributes", "globalattributes"}
    points = dict(attribute(*pair, count) for pair in attributes["pointattributes"])
    detail = dict(attribute(*pair, 1) for pair in attributes["globalattributes"])
    assert len(points) == len(attributes["pointattributes"])
    assert points["P"].shape == (count, 3)
    return count, points, detail


def attribute(definition: list, content: list, count: int) -> tuple[str, np.ndarray]:
    about, held = flat(definition), flat(content)
    assert about["scope"] == "public"
    if about["type"] == "string":
        assert (held["size"], held["storage"]) == (1, "int32")
        table, indices = held["strings"], numbers(flat(held["indices"]), count)
        assert indices.dtype == np.int32
        assert indices.min() >= 0
        return about["name"], np.array(table)[indices]
    assert about["type"] == "numeric"
    values = flat(held["values"])
    assert (values["size"], values["storage"]) == (held["size"], held["storage"])
    default = flat(held["defaults"])
    assert default["storage"] == {"fpreal32": "fpreal64", "int32": "int64"}[held["storage"]]
    assert len(default["values"]) == default["size"] in (1, held["size"])
    expected = {"P": "point", "Cd": "color"}.get(about["name"])
    options = {"type": {"type": "string", "value": expected}} if expected else {}
    assert about["options"] == options
    return about["name"], numbers(values, count)


def numbers(values: dict[str, Any], count: int) -> np.ndarray:
    size, kind = values["size"], STORAGE[values["storage"]]
    if size == 1:
        (found,) = values["arrays"]
        assert len(found) == count
    else:
        found = values["tuples"]
        assert [len(row) for row in found] == [size] * count
    read = np.array(found, np.float64)
    if kind is np.int32:
        assert all(type(value) is int for value in found)
        assert np.abs(read).max() < 2**31
    return read.astype(kind)
