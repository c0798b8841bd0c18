"""What goes for all points of an import: `map2d.json`, beside `map2d.csv`.

The scripts in Houdini read it before they open a file of a hundred thousand lines: names of the
classes, where image i is in the atlas, how large the map is.
"""

import json

from houdini_bridge.results.cloud import Cloud
from houdini_bridge.results.npz import Results

VERSION = 1


def description(results: Results, cloud: Cloud, which: str, size: float, atlas: str) -> str:
    """The file's text. `scripts/python/lab_houdini/result.py` reads it."""
    columns, count = results.atlas_columns, len(results)
    content = {
        "version": VERSION,
        "map": which,
        "count": count,
        "class_names": list(results.class_names),
        "atlas": atlas,
        "cell": results.atlas_cell,
        "columns": columns,
        "rows": -(-count // columns),
        "size": size,
        "pscale": float(cloud["pscale"][0]),
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
