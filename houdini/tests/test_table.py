"""The jitter table: what it holds, that both files say the same, and whose it is."""

import csv
import json

import numpy as np
import pytest
from matplotlib.font_manager import FontProperties

from houdini_bridge import table
from houdini_bridge.faces import all_faces
from houdini_bridge.look import sample
from houdini_bridge.table import COLUMNS, DTYPE, describe, ensure, geometry, read_rows
from trainloop import LabError

HEADER = [
    "digit", "frame", "cell", "source", "face", "slant_deg", "rotate_deg", "scale_x", "scale_y",
    "offset_x_px", "offset_y_px", "stroke_px", "warp_px", "warp_scale_px", "blur_px", "noise",
    "contrast", "seed",
]  # fmt: skip


@pytest.fixture(scope="module")
def parsed(text) -> np.ndarray:
    return table.parse_rows(text)


def test_columns_and_order_are_the_contract(text, parsed):
    assert list(COLUMNS) == HEADER
    assert text.splitlines()[0] == ",".join(HEADER)
    places = [(int(r["digit"]), int(r["frame"]), int(r["cell"])) for r in parsed]
    assert places == [(d, f, c) for d in range(10) for f in range(1, 65) for c in range(64)]


def test_python_csv_reads_what_the_renderer_reads(text, parsed, tmp_path):
    """Not our reader: types as table.json names them."""
    (tmp_path / "table.csv").write_text(text, "utf-8")
    columns = describe(0, text)["columns"]
    kinds = {"int": int, "float": float, "str": str}
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        for row, line in zip(parsed, csv.DictReader(file), strict=True):
            read = tuple(kinds[columns[name]["type"]](line[name]) for name in columns)
            assert row.item() == read
    assert np.array_equal(read_rows(tmp_path), parsed)


def test_a_sheet_follows_from_seed_digit_and_frame_alone(parsed):
    alone = np.zeros(64, DTYPE)
    for digit, frame in [(7, 64), (0, 3)]:
        sample(0, digit, frame, alone, all_faces())
        here = parsed[(parsed["digit"] == digit) & (parsed["frame"] == frame)]
        for name in ("face", "seed", "cell"):
            assert np.array_equal(here[name], alone[name])
        assert np.allclose(here["scale_x"], alone["scale_x"], atol=6e-5)
    before = alone.copy()
    sample(1, 0, 3, alone, all_faces())
    assert not np.array_equal(before["seed"], alone["seed"])


def test_values_lie_where_their_meaning_allows(parsed):
    assert parsed["seed"].min() >= 0
    assert parsed["seed"].max() < 2**31
    assert len(np.unique(parsed["seed"])) > 40_900
    pens = parsed[parsed["source"] == "stroke"]
    assert set(parsed["source"]) == {"stroke", "font"}
    assert 0.8 < len(pens) / len(parsed) < 0.9
    assert pens["stroke_px"].min() >= 1
    for name in ("scale_x", "scale_y", "warp_scale_px", "contrast"):
        assert parsed[name].min() > 0
    for name in ("noise", "blur_px", "warp_px"):
        assert parsed[name].min() >= 0
    used = {(str(r["face"]), int(r["digit"])) for r in parsed}
    assert used == set(all_faces()), "every face is drawn"


def test_table_json_describes_all_that_the_rows_name(text):
    about = json.loads(json.dumps(describe(5, text), allow_nan=False))
    assert (about["seed"], about["digits"], about["frames"]) == (5, 10, 64)
    assert (about["grid"], about["cell"]) == (8, 28)
    assert list(about["columns"]) == HEADER
    assert all(entry["meaning"] for entry in about["columns"].values())
    for (name, digit), face in all_faces().items():
        if face.source == "stroke":
            assert about["strokes"][name] == face.lines
        else:
            font = about["fonts"][name]
            assert font["path"].endswith(font["file"])
            assert FontProperties(fname=font["path"]).get_name()
            assert font["centre_em"][digit] == list(face.centre)
            assert font["size_em"][digit] == face.size


def test_another_seed_needs_overwrite(quick, tmp_path):
    rows, print_0 = ensure(tmp_path, 0, overwrite=False)
    written = (tmp_path / "table.json").stat().st_mtime_ns
    assert ensure(tmp_path, 0, overwrite=False)[1] == print_0
    assert (tmp_path / "table.json").stat().st_mtime_ns == written, "not written again"
    with pytest.raises(LabError, match=r"seed 0.*--overwrite") as caught:
        ensure(tmp_path, 1, overwrite=False)
    assert "\n" not in str(caught.value)
    _, print_1 = ensure(tmp_path, 1, overwrite=True)
    assert print_1 != print_0
    assert json.loads((tmp_path / "table.json").read_text())["seed"] == 1
    assert len(rows) == 40_960


def test_another_look_needs_overwrite(quick, tmp_path, monkeypatch):
    ensure(tmp_path, 0, overwrite=False)
    monkeypatch.setattr(table, "CODE", table.CODE[:-1])
    with pytest.raises(LabError, match="another look"):
        ensure(tmp_path, 0, overwrite=False)


@pytest.mark.parametrize("how", ["edited", "torn json", "csv gone"])
def test_a_damaged_table_is_told_from_a_whole_one(quick, tmp_path, how):
    ensure(tmp_path, 0, overwrite=False)
    rows, about = tmp_path / "table.csv", tmp_path / "table.json"
    if how == "edited":
        rows.write_text(rows.read_text().replace("0-round", "0-open", 1))
    elif how == "torn json":
        about.write_text(about.read_text()[:1000])
        with pytest.raises(LabError, match="damaged"):
            geometry(tmp_path)
    else:
        rows.unlink()
    with pytest.raises(LabError, match="--overwrite"):
        ensure(tmp_path, 0, overwrite=False)
    rows_again, _ = ensure(tmp_path, 0, overwrite=True)
    assert rows_again["face"][0] == read_rows(tmp_path)["face"][0]


def test_killed_before_table_json_it_is_written_again(quick, tmp_path):
    ensure(tmp_path, 0, overwrite=False)
    (tmp_path / "table.json").unlink()
    (tmp_path / "table.csv").write_text("half a ta")
    ensure(tmp_path, 0, overwrite=False)
    assert len(read_rows(tmp_path)) == 40_960


def test_wrong_rows_are_one_line(text, tmp_path):
    with pytest.raises(LabError, match="cannot be read"):
        read_rows(tmp_path)
    for wrong, what in [
        (text.replace("slant_deg", "slant", 1), "columns"),
        (text.replace("stroke,", "stroke,,", 1), "damaged"),
        ("\n".join(text.splitlines()[:-1]), "40,959"),
        ("", "columns"),
    ]:
        (tmp_path / "table.csv").write_text(wrong)
        with pytest.raises(LabError, match=what) as caught:
            read_rows(tmp_path)
        assert "\n" not in str(caught.value)


def test_geometry_is_the_tables_or_the_usual(quick, tmp_path):
    assert geometry(tmp_path) == {"grid": 8, "cell": 28, "frames": 64}
    ensure(tmp_path, 0, overwrite=False)
    assert geometry(tmp_path)["fonts"]
