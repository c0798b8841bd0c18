"""install-houdini: which folders it finds, what it writes, what it leaves alone."""

import json
import sys
from pathlib import Path

import pytest

from houdini_bridge import install
from houdini_bridge.install import CHECKOUT, MARK, NAME, main, user_folders


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    """The command; exit code, output, errors."""
    monkeypatch.setattr(sys, "argv", ["install-houdini", *arguments])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home with the user folders of four versions."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(install.sys, "platform", "linux")
    monkeypatch.delenv("HOUDINI_USER_PREF_DIR", raising=False)
    for name in ("houdini19.5", "houdini20.0", "houdini20.5", "houdini21.0"):
        (tmp_path / name).mkdir()
    (tmp_path / "houdini22.0").touch()
    (tmp_path / "houdini-files").mkdir()
    return tmp_path


def test_it_writes_what_houdini_reads(home, capsys, monkeypatch) -> None:
    code, out, _ = run(capsys, monkeypatch)
    assert code == 0
    for version in ("20.5", "21.0"):
        path = home / f"houdini{version}/packages" / NAME
        assert f"wrote {path}" in out
        package = json.loads(path.read_text())
        variables = {name: value for entry in package["env"] for name, value in entry.items()}
        folder = package["path"]
        for name, value in variables.items():
            folder = folder.replace(f"${name}", value)
        assert (Path(folder) / "scripts/python/lab_houdini/seam.py").is_file()
        assert (Path(folder) / "toolbar/ml_learning_lab.shelf").is_file()
        assert (Path(folder) / "python_panels/ml_learning_lab.pypanel").is_file()
    assert not (home / "houdini20.0/packages").exists()


def test_twice_is_once_and_uninstall_undoes_it(home, capsys, monkeypatch) -> None:
    run(capsys, monkeypatch)
    assert "was there already" in run(capsys, monkeypatch)[1]
    assert run(capsys, monkeypatch, "--uninstall")[1].count("removed") == 2
    assert not list(home.glob("*/packages/*"))
    assert run(capsys, monkeypatch, "--uninstall")[:2] == (0, "".join(
        f"{home}/houdini{version}/packages/{NAME} is not there\n" for version in ("20.5", "21.0")
    ))  # fmt: skip


def test_another_checkout_is_replaced_and_named(home, capsys, monkeypatch) -> None:
    folder = home / "houdini21.0"
    assert "pointed" not in install.install(folder, Path("/old"))
    _, out, _ = run(capsys, monkeypatch, "--houdini-dir", str(folder))
    assert "which pointed to /old" in out
    package = json.loads((folder / "packages" / NAME).read_text())
    assert package["env"] == [{MARK: CHECKOUT.as_posix()}]


@pytest.mark.parametrize("content", ["{", "[]", '{"env": []}', '{"env": [{"OTHER": "x"}]}'])
@pytest.mark.parametrize("option", [(), ("--uninstall",)])
def test_a_file_of_another_maker_is_left_alone(home, capsys, monkeypatch, content, option) -> None:
    """And nothing is written to the other folders either."""
    package = home / "houdini21.0/packages" / NAME
    package.parent.mkdir()
    package.write_text(content)
    code, _, err = run(capsys, monkeypatch, *option)
    assert code == 2
    assert "was not written by this command" in err and err.count("\n") == 1
    assert package.read_text() == content
    assert not (home / "houdini20.5/packages").exists()


def test_no_houdini_is_one_line(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("HOUDINI_USER_PREF_DIR", raising=False)
    code, _, err = run(capsys, monkeypatch)
    assert code == 2 and "--houdini-dir" in err
    code, _, err = run(capsys, monkeypatch, "--houdini-dir", str(tmp_path / "houdini9.9"))
    assert code == 2 and "there is no folder" in err


def test_each_system_has_its_place(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("HOUDINI_USER_PREF_DIR", raising=False)
    places = {
        "linux": tmp_path / "houdini21.0",
        "win32": tmp_path / "Documents/houdini21.0",
        "darwin": tmp_path / "Library/Preferences/houdini/21.0",
    }
    for place in places.values():
        place.mkdir(parents=True)
    for platform, place in places.items():
        assert user_folders(tmp_path, platform) == [place]
    named = tmp_path / "elsewhere/prefs20.5"
    named.mkdir(parents=True)
    monkeypatch.setenv("HOUDINI_USER_PREF_DIR", str(tmp_path / "elsewhere/prefs__HVER__"))
    assert user_folders(tmp_path, "linux") == [named, places["linux"]]


def test_no_path_of_a_machine_is_committed() -> None:
    assert str(CHECKOUT) not in install.TEMPLATE.read_text()
    assert "@CHECKOUT@" in install.TEMPLATE.read_text()
