"""`install-houdini`: tells Houdini where this checkout is, by a package file in its user folders.

Houdini reads `packages/*.json` in its user folder at start and adds each package's folder to its
path: `scripts/python` becomes importable and `toolbar` shows its shelf. The file holds an absolute
path, so it is made here, from the template `houdini/packages/ml_learning_lab.json`.
"""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from trainloop import LabError, check, entry_point, parse, write_text

NAME = "ml_learning_lab.json"
MARK = "ML_LEARNING_LAB"
"""The variable that a package file of ours sets, and by which it is known."""
TEMPLATE = Path(__file__).resolve().parents[1] / "packages" / NAME
CHECKOUT = Path(__file__).resolve().parents[2]
OLDEST = (20, 5)  # the first Houdini with the COPs of the scene


@dataclass(frozen=True, kw_only=True)
class InstallConfig:
    """Where to install."""

    houdini_dir: str = ""
    """Houdini's user folder, such as ~/houdini21.0; left out: every one that is found, of 20.5 on.
    """
    uninstall: bool = False
    """Remove the package file instead."""


@entry_point
def main() -> None:
    """Let Houdini find the lab's scene builder: write its package file, or remove it."""
    config = parse(InstallConfig, main.__doc__)
    folders = [Path(config.houdini_dir).expanduser()] if config.houdini_dir else user_folders()
    for folder in folders:
        check(folder.is_dir(), f"there is no folder {folder}: start Houdini once, or mend the name")
    check(
        bool(folders),
        "found no user folder of Houdini 20.5 or newer: start Houdini once, or name the folder "
        "with --houdini-dir",
    )
    for folder in folders:
        owner_of(folder / "packages" / NAME)  # all of them, before the first is touched
    for folder in folders:
        print((remove if config.uninstall else install)(folder))


def user_folders(home: Path | None = None, platform: str = sys.platform) -> list[Path]:
    """Houdini's user folders of this person, oldest version first, of 20.5 on."""
    home = home or Path.home()
    parent, pattern = {
        "darwin": (home / "Library/Preferences/houdini", "*"),
        "win32": (home / "Documents", "houdini*"),
    }.get(platform, (home, "houdini*"))
    places = [*parent.glob(pattern)]
    if named := os.environ.get("HOUDINI_USER_PREF_DIR"):  # holds __HVER__ for the version
        before, _, after = Path(named).name.partition("__HVER__")
        places += Path(named).parent.glob(f"{before}*{after}")
    found = {}
    for place in places:
        version = re.search(r"(\d+)\.(\d+)$", place.name)
        if version and place.is_dir():
            number = (int(version[1]), int(version[2]))
            if number >= OLDEST:
                found[place.resolve()] = number
    return sorted(found, key=lambda place: found[place])


def owner_of(package: Path) -> str:
    """The checkout that a package file of ours points to; empty where there is no file.

    Raises:
        LabError: the file is not ours.
    """
    if not package.exists():
        return ""
    try:
        (variables,) = json.loads(package.read_text("utf-8"))["env"]
        return str(variables[MARK])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LabError(
            f"{package} was not written by this command: move it away, then try again"
        ) from error


def install(folder: Path, checkout: Path = CHECKOUT) -> str:
    """Write the package file into a user folder of Houdini; what was done, in words.

    Raises:
        LabError: a file of this name is there and is not ours.
    """
    package = folder / "packages" / NAME
    before = owner_of(package)
    content = TEMPLATE.read_text("utf-8").replace("@CHECKOUT@", checkout.as_posix())
    package.parent.mkdir(exist_ok=True)
    write_text(package, content)
    if before == checkout.as_posix():
        return f"{package} was there already"
    instead = f", which pointed to {before}" if before else ""
    return f"wrote {package}{instead}: the next Houdini shows the shelf ML Learning Lab"


def remove(folder: Path) -> str:
    """Remove the package file from a user folder of Houdini; what was done, in words.

    Raises:
        LabError: the file is not ours.
    """
    package = folder / "packages" / NAME
    if not owner_of(package):
        return f"{package} is not there"
    package.unlink()
    return f"removed {package}"
