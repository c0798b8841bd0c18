"""Checkpoints and .npz files that are none: cut, broken, another's, and such as run a program."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


class Malicious:
    """Unpickled by a careless program, it makes a folder called `executed`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def truncated(path: Path) -> None:
    """The first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def corrupt(path: Path) -> None:
    """As long as it was, with a hole near the start and one in the middle."""
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[40:240] = bytes(200)
    whole[middle : middle + 200] = bytes(200)
    path.write_bytes(whole)


def foreign(path: Path) -> None:
    """A checkpoint of this lab, but of another project: its name is a string of the pickle."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in parts if name.endswith("/data.pkl"))
    old = path.parent.parent.name.encode()
    marked = [b"X" + len(name).to_bytes(4, "little") + name for name in (b"project", old, b"alien")]
    key, was, now = marked
    start = parts[pickled].index(was, parts[pickled].index(key))
    whole = parts[pickled]
    parts[pickled] = whole[:start] + now + whole[start + len(was) :]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def malicious(path: Path) -> None:
    """torch's own format, around a pickle that calls a function."""
    evil = pickle.dumps({"trainloop": 1, "states": Malicious(path.parent / "executed")}, 2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", evil)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")


def npz_truncated(path: Path) -> None:
    npz_foreign(path)
    truncated(path)


def npz_foreign(path: Path) -> None:
    """Arrays, but nobody's here."""
    np.savez(path, altitude=np.zeros(50), azimuth=np.ones(50))


def npz_malicious(path: Path) -> None:
    """An array of objects, one of which calls a function when it is read."""
    np.savez(path, weight0=np.array([Malicious(path.parent / "executed")]))


CHECKPOINT: dict[str, Callable[[Path], object]] = {
    "truncated": truncated,
    "corrupt": corrupt,
    "foreign": foreign,
    "malicious": malicious,
}
NPZ = {"truncated": npz_truncated, "foreign": npz_foreign, "malicious": npz_malicious}
