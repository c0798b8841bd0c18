"""Writes a cloud as CSV, a row a point: for spreadsheets, and for Houdini's Table Import SOP."""

import csv
import io

from houdini_bridge.results.cloud import Cloud, plain

COMPONENTS = {"P": "xyz", "Cd": "rgb", "uv": "uv"}
"""Attributes with a column for each component; the third of uv is always 0 and left out."""


def csv_text(cloud: Cloud) -> str:
    """The file's text: a header of attribute names, P as x, y, z, Cd as r, g, b."""
    columns: dict[str, list] = {}
    for name, values in cloud.values.items():
        if name in COMPONENTS:
            for component, column in zip(COMPONENTS[name], values.T, strict=False):
                columns[component] = plain(column)
        else:
            columns[name] = plain(values)
    columns["class_name"] = [cloud.class_names[number] for number in cloud["pred"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()
