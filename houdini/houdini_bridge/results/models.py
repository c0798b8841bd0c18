"""Checks exported models with the reader that the scripts in Houdini use themselves."""

import sys
from pathlib import Path

from trainloop import LabError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts/python"


def check_model(path: Path) -> str:
    """In a line what the model takes and gives.

    Raises:
        LabError: Houdini's ONNX node would not take it; why, and how to export it instead.
    """
    if str(SCRIPTS) not in sys.path:  # no package: Houdini finds it in this folder
        sys.path.append(str(SCRIPTS))
    from lab_houdini.onnx_file import classifier, described
    from lab_houdini.table import SceneError

    try:
        return described(classifier(path))
    except SceneError as error:
        raise LabError(str(error)) from None
