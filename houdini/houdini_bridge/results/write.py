"""Writes all files of an import into one folder, which can be carried elsewhere as it is."""

from pathlib import Path

from houdini_bridge.results.cloud import cloud_of
from houdini_bridge.results.config import ImportConfig
from houdini_bridge.results.csv_file import csv_text
from houdini_bridge.results.describe import description
from houdini_bridge.results.geo import geo_text
from houdini_bridge.results.npz import read_results
from houdini_bridge.results.preview import preview
from houdini_bridge.results.usd import usd_text
from trainloop import LabError, atomic_write

ATLAS = "atlas.png"


def write(config: ImportConfig) -> list[Path]:
    """Read, check and write; the paths of what was written.

    The atlas is copied beside the other files, which name it by a relative path.

    Raises:
        LabError: the predictions or the atlas will not do, or the folder cannot be made.
    """
    results = read_results(config.predictions)
    cloud = cloud_of(results, config.map, config.size)
    folder = config.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise LabError(f"{folder} is no folder: choose another --out") from None
    atlas, name = folder / ATLAS, f"map{config.map}"
    if not (atlas.exists() and atlas.samefile(results.atlas_path)):
        pixels = results.atlas_path.read_bytes()
        atomic_write(atlas, lambda file: file.write(pixels))
    paths = [atlas]
    for ending, text in (
        (".geo", geo_text(cloud, ATLAS)),
        (".usda", usd_text(cloud, f"./{ATLAS}")),  # ./: beside the layer, not on a search path
        (".csv", csv_text(cloud, results.probabilities)),
        (".json", description(results, cloud, config.map, config.size, ATLAS)),
    ):
        paths.append(folder / (name + ending))
        encoded = text.encode()
        atomic_write(paths[-1], lambda file, encoded=encoded: file.write(encoded))
    paths.append(folder / f"{name}.png")
    preview(paths[-1], results, cloud)
    return paths
