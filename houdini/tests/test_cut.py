"""The cutter: order, orientation, every kind of image, and what it says of wrong ones."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from houdini_bridge.config import CutConfig
from houdini_bridge.cut import CutJob, Record, cells, cut, cut_sheet, read_gray
from houdini_bridge.sheets import sheet_path
from trainloop import LabError


def marker(cell: int = 28, grid: int = 8, shift: int = 0) -> np.ndarray:
    """A sheet whose cells tell their own number, and which way is up, right and not mirrored."""
    sheet = np.zeros((grid * cell, grid * cell), np.uint8)
    for index in range(grid * grid):
        y, x = cell * (index // grid), cell * (index % grid)
        sheet[y, x : x + cell] = index + shift  # the top row: the number
        sheet[y + 1, x] = 255  # below it on the left
        sheet[y + cell - 1, x + cell - 1] = 100  # and the lower right corner
    return sheet


def write(folder: Path, digit: int, frame: int, image: Image.Image) -> Path:
    path = sheet_path(folder, digit, frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def folders(tmp_path) -> dict[str, str]:
    """Sheets of digits 3 and 7, two frames each; frame 2 is brighter by 100."""
    for digit in (3, 7):
        for frame in (1, 2):
            write(tmp_path / "in", digit, frame, Image.fromarray(marker(shift=100 * (frame - 1))))
    return {"render_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out")}


def config(folders, **options) -> CutConfig:
    return CutConfig(**{"digits": (3, 7), "frames": 2, "workers": 1, **folders, **options})


def pngs(folders) -> list[str]:
    home = Path(folders["output_dir"])
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.suffix == ".png")


def test_cells_come_row_by_row_and_upright(folders):
    cut(config(folders))
    assert len(pngs(folders)) == 4 * 64
    for index in range(64):
        for frame in (1, 2):
            path = Path(folders["output_dir"]) / "7" / f"{frame:04d}_{index:02d}.png"
            with Image.open(path) as image:
                assert (image.mode, image.size) == ("L", (28, 28))
                pixels = np.asarray(image)
            assert (pixels[0] == index + 100 * (frame - 1)).all()
            assert (pixels[1, 0], pixels[-1, -1]) == (255, 100)
            assert np.count_nonzero(pixels[1:]) == 2


def test_nothing_but_digits_and_the_record_is_left(folders):
    cut(config(folders))
    names = {path.name for path in Path(folders["output_dir"]).rglob("*") if path.is_file()}
    assert {name for name in names if not name.endswith(".png")} == {"cut.jsonl"}


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel (PNG specification, 11.2): 1 gray, 2 with alpha, 3 RGB, 4 RGBA."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize("kind", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_eight_bits_of_every_kind(kind):
    sheet = np.where(marker() > 60, 255, 0).astype(np.uint8) if kind == "1" else marker()
    image = Image.fromarray(sheet).convert(kind)
    assert np.array_equal(gray(image), sheet)


def gray(image: Image.Image | bytes) -> np.ndarray:
    """read_gray of an image of 8x8 cells of 28 pixels."""
    if not isinstance(image, bytes):
        import io

        file = io.BytesIO()
        image.save(file, "PNG")
        image = file.getvalue()
    return read_gray(Path("sheet.png"), image, 28, 8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_are_scaled(channels):
    values = np.random.default_rng(0).integers(0, 65536, (224, 224, 1), np.uint16)
    pixels = np.repeat(values, channels, 2)
    if channels in (2, 4):
        pixels[..., -1] = 65535
    error = gray(png16(pixels)).astype(float) - values[..., 0] / 257
    assert np.abs(error).max() <= (0.5 if channels == 1 else 1.0)


def test_colours_become_luma_and_transparency_black():
    rgba = np.zeros((224, 224, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[:10, :, 0], rgba[10:20, :, 1], rgba[20:30, :, 2] = 255, 255, 255
    rgba[30:40] = (200, 200, 200, 128)
    rgba[40:50] = (255, 255, 255, 0)
    found = gray(Image.fromarray(rgba))
    for row, expected in [(5, 0.299 * 255), (15, 0.587 * 255), (25, 0.114 * 255),
                          (35, 200 * 128 / 255), (45, 0), (60, 0)]:  # fmt: skip
        assert found[row, 0] == pytest.approx(expected, abs=0.6)


def test_other_cells_and_grids(folders, tmp_path):
    write(tmp_path / "in", 5, 1, Image.fromarray(marker(cell=16, grid=3)))
    cut(config(folders, digits=(5,), frames=1, cell=16, grid=3))
    assert pngs(folders) == [f"5/0001_{index:02d}.png" for index in range(9)]
    with Image.open(Path(folders["output_dir"]) / "5/0001_07.png") as image:
        assert image.size == (16, 16)
        assert image.getpixel((3, 0)) == 7


def test_grid_and_cell_are_those_of_table_json(folders, tmp_path):
    about = {"grid": 3, "cell": 16, "frames": 1}
    (tmp_path / "in/table.json").write_text(json.dumps(about))
    write(tmp_path / "in", 5, 1, Image.fromarray(marker(cell=16, grid=3)))
    cut(config(folders, digits=(5,), frames=0))
    assert len(pngs(folders)) == 9


def test_cells_of_a_sheet_that_is_not_square_inside():
    assert cells(np.arange(16, dtype=np.uint8).reshape(4, 4), 2).tolist()[1] == [[2, 3], [6, 7]]


def spoil(folders, how: str) -> str:
    """Make sheet 7.0001 unusable; what the message must say."""
    path = sheet_path(Path(folders["render_dir"]), 7, 1)
    if how == "missing":
        path.unlink()
        return "No such file.*render it"
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:-200])
        return "damaged"
    if how == "no image":
        path.write_text("not an image at all")
        return "damaged or no image"
    side = {"another size": 256, "odd size": 300}[how]
    Image.new("L", (side, side)).save(path)
    return r"--cell 32" if side == 256 else "--grid and --cell"


WRONG = ["missing", "cut short", "no image", "another size", "odd size"]


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_sheet_is_one_line_and_nothing_is_written(folders, how):
    says = spoil(folders, how)
    with pytest.raises(LabError, match=says) as caught:
        cut(config(folders))
    assert "7.0001.png" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path(folders["output_dir"]).exists()


@pytest.mark.parametrize("how", WRONG)
def test_keep_going_cuts_the_rest_and_lists_what_it_left(folders, how, capsys):
    spoil(folders, how)
    with pytest.raises(SystemExit) as caught:
        cut(config(folders, keep_going=True))
    assert caught.value.code == 1
    assert len(pngs(folders)) == 3 * 64
    left = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
    assert len(left) == 1
    assert "7.0001.png" in left[0]


def test_several_wrong_sheets_are_counted(folders):
    for frame in (1, 2):
        sheet_path(Path(folders["render_dir"]), 3, frame).unlink()
    with pytest.raises(LabError, match=r"1 more of 4 sheets.*--keep-going"):
        cut(config(folders))


def test_what_is_cut_is_not_cut_again(folders, capsys):
    cut(config(folders, frames=1))
    path = Path(folders["output_dir"]) / "3/0001_00.png"
    path.write_bytes(b"mine")  # would be replaced if it were cut again
    cut(config(folders))
    assert path.read_bytes() == b"mine"
    assert "2 sheets cut into 128 digits, 2 were cut before" in capsys.readouterr().err
    path.unlink()
    cut(config(folders))
    assert path.read_bytes() not in (b"", b"mine")


def test_a_sheet_that_has_changed_needs_overwrite(folders, tmp_path):
    cut(config(folders))
    before = (Path(folders["output_dir"]) / "3/0001_07.png").read_bytes()
    write(tmp_path / "in", 3, 1, Image.fromarray(marker(shift=50)))
    with pytest.raises(LabError, match=r"another 3.0001.png: --overwrite"):
        cut(config(folders))
    assert (Path(folders["output_dir"]) / "3/0001_07.png").read_bytes() == before
    cut(config(folders, overwrite=True))
    with Image.open(Path(folders["output_dir"]) / "3/0001_07.png") as image:
        assert image.getpixel((0, 0)) == 57
    cut(config(folders))  # and now they belong together


def test_overwrite_leaves_no_digit_of_what_is_gone(folders, tmp_path):
    """Of a sheet that is gone, and of a larger grid."""
    cut(config(folders))
    sheet_path(tmp_path / "in", 3, 2).unlink()
    write(tmp_path / "in", 3, 1, Image.fromarray(marker(cell=112, grid=2)))
    cut(config(folders, digits=(3,), frames=1, cell=112, grid=2, overwrite=True))
    assert [name for name in pngs(folders) if name[0] == "3"] == [
        f"3/0001_{index:02d}.png" for index in range(4)
    ]
    assert sum(name[0] == "7" for name in pngs(folders)) == 128


def test_digits_of_a_killed_cut_are_cut_again(folders):
    """Some files are there, the record has a torn line: neither is trusted."""
    output = Path(folders["output_dir"])
    (output / "3").mkdir(parents=True)
    (output / "3/0001_00.png").write_bytes(b"half")
    (output / "cut.jsonl").write_text('{"digit": 3, "frame": 1, "ori')
    cut(config(folders))
    with Image.open(output / "3/0001_00.png") as image:
        assert image.size == (28, 28)
    assert len(Record(output).origins) == 4


def test_a_failed_write_leaves_no_half_digit(folders, monkeypatch, tmp_path):
    job = CutJob(sheet_path(tmp_path / "in", 3, 1), tmp_path / "out", 3, 1, 28, 8)
    write_bytes = Path.write_bytes

    def full(self, data):
        if len(list((tmp_path / "out/3").glob("*.png"))) == 10:
            write_bytes(self, data[:20])
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        cut_sheet(job)
    left = list((tmp_path / "out/3").iterdir())
    assert len(left) == 10
    assert all(path.stat().st_size > 60 for path in left)


@pytest.mark.parametrize(
    "wrong", [{"digits": (3, 3)}, {"digits": (10,)}, {"digits": ()}, {"frames": -1},
              {"cell": -1}, {"grid": -1}, {"workers": -1}],
)  # fmt: skip
def test_wrong_options_are_one_line(wrong):
    with pytest.raises(LabError, match=f"--{next(iter(wrong))}"):
        CutConfig(**wrong)
