"""The commands `import`, predictions into files for Houdini, and `check-onnx`."""

from houdini_bridge.results.config import CheckConfig, ImportConfig
from trainloop import entry_point, parse


@entry_point
def import_results() -> None:
    """Write predictions and their images as .geo, .usda and .csv for Houdini, with a picture."""
    config = parse(ImportConfig, import_results.__doc__)
    from houdini_bridge.results.write import write

    for path in write(config):
        print(path)


@entry_point
def check_onnx() -> None:
    """Say what .onnx models take and give, or why Houdini's ONNX node would not take them."""
    config = parse(CheckConfig, check_onnx.__doc__)
    from houdini_bridge.results.models import check_model

    for path in config.models:
        print(f"{path}: {check_model(path)}")
