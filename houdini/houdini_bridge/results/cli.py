"""The command `import`: predictions into files for Houdini."""

from houdini_bridge.results.config import ImportConfig
from trainloop import entry_point, parse


@entry_point
def import_results() -> None:
    """Write predictions and their images as .geo, .usda and .csv for Houdini, with a picture."""
    config = parse(ImportConfig, import_results.__doc__)
    from houdini_bridge.results.write import write

    for path in write(config):
        print(path)
