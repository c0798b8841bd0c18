"""Writes a cloud as CSV, a row a point: for spreadsheets, the Table Import SOP and the panel."""

import csv
import io

import numpy as np
from jaxtyping import Float

from houdini_bridge.results.cloud import Cloud, plain

COMPONENTS = {"P": "xyz", "Cd": "rgb", "uv": "uv"}
"""Attributes with a column for each component; the third of uv is always 0 and left out."""


def csv_text(cloud: Cloud, probabilities: Float[np.ndarray, "N 10"]) -> str:
    """The file's text: a header of attribute names, P as x, y, z, Cd as r, g, b, then p0 to p9.

    Args:
        probabilities: of the ten classes; the geometry has the largest alone, as `confidence`.
    """
    columns: dict[str, list] = {}
    for name, values in cloud.values.items():
        if name in COMPONENTS:
            for component, column in zip(COMPONENTS[name], values.T, strict=False):
                columns[component] = plain(column)
        else:
            columns[name] = plain(values)
    for name, numbers in (("class_name", cloud["pred"]), ("label_name", cloud["label"])):
        columns[name] = [cloud.class_names[number] for number in numbers]
    for number, column in enumerate(probabilities.astype(np.float32).T):
        columns[f"p{number}"] = plain(column)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()
