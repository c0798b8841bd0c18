"""2-D fitting: it fits, and the small file shows what was fitted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from splatting.config import FitConfig
from splatting.fit_image import Splats2d, best_jpeg, fit_image, photo, rate_table
from trainloop import LabError, Training
from trainloop.testing import assert_resume_is_exact

SHORT = FitConfig(size=32, gaussians=60, steps=120, frames=5, eval_every=40)


def test_photos_are_there():
    flower, china = photo("flower", 32), photo("china", 32)
    assert flower.shape == china.shape == (32, 32, 3)
    assert (flower != china).any()


def test_a_photo_of_ones_own(tmp_path):
    Image.new("RGB", (50, 40), (200, 10, 20)).save(tmp_path / "red.png")
    assert (photo(str(tmp_path / "red.png"), 16) == (200, 10, 20)).all()
    with pytest.raises(LabError, match="no picture at"):
        photo(str(tmp_path / "missing.png"), 16)
    (tmp_path / "no.png").write_text("hello")
    with pytest.raises(LabError, match="is no picture"):
        photo(str(tmp_path / "no.png"), 16)


def test_it_fits_and_says_what_it_costs(runs):
    found = fit_image(SHORT)
    home = runs / "latest"
    assert found["psnr"] > 22
    lines = [json.loads(line) for line in (home / "metrics.jsonl").open()]
    curve = [line["psnr"] for line in lines if "psnr" in line]
    assert curve[-1] > curve[0]
    assert found["bytes"] == (home / "splats.bin").stat().st_size == 6 + 4 * 21 + 11 * 60
    assert found["parameters"] == 540 < 32 * 32
    assert abs(found["psnr_file"] - found["psnr"]) < 2
    filmed = [int(path.stem) for path in sorted((home / "frames").glob("*.png"))]
    assert filmed == [1, 6, 20, 44, 77], "denser at the beginning"
    assert {"fit.png", "fit.gif"} <= {path.name for path in home.iterdir()}
    with Image.open(home / "fit.gif") as gif:
        assert gif.size == (256, 256)
        assert gif.n_frames >= 5
    image = Splats2d.decode((home / "splats.bin").read_bytes())()
    truth = torch.from_numpy(photo("flower", 32)).float() / 255
    error = (image.detach().clamp(0, 1) - truth).square().mean()
    assert -10 * error.log10().item() == pytest.approx(found["psnr_file"], abs=1e-3)


def test_the_file_keeps_every_number_within_half_a_step():
    torch.manual_seed(0)
    splats = Splats2d(torch.rand(20, 30, 3), 40)
    with torch.no_grad():
        splats.angles += 9
    again = Splats2d.decode(splats.encode())
    assert torch.equal(again.background, splats.background)
    assert (again.places - splats.places).abs().max() < 1e-3
    assert (again.colours - splats.colours).abs().max() < 1 / 255
    assert torch.allclose(splats(), again(), atol=0.05)


def test_resume_is_exact(tmp_path, monkeypatch, no_pictures):
    config = replace(SHORT, steps=12, eval_every=5, frames=3)
    assert_resume_is_exact(fit_image, config, "splatting", 7, tmp_path, monkeypatch)


def test_jpeg_of_so_many_bytes():
    """Also of more than the default's quality of colour: no straw man."""
    pixels = photo("china", 64)
    few, size = best_jpeg(pixels, 1500)
    more, _ = best_jpeg(pixels, 4000)
    assert size <= 1500
    assert few < more
    assert best_jpeg(pixels, 100) == (None, 0)
    assert best_jpeg(pixels, 10**6)[0] > 40


def test_rate_table():
    row = {"gaussians": 500, "psnr": 25.0, "ssim": 0.8, "bytes": 5600, "psnr_file": 24.9,
           "psnr_jpeg": None, "jpeg_bytes": 0}  # fmt: skip
    other = {**row, "gaussians": 100, "psnr_jpeg": 20.0, "jpeg_bytes": 1000}
    lines = rate_table([other, row]).splitlines()
    assert lines[2].startswith("| 100 |")
    assert "20.00 dB, 1,000 bytes" in lines[2]
    assert "cannot be as small" in lines[3]


def test_sweep_asks_for_the_other_numbers(runs, no_pictures, monkeypatch):
    asked = {}

    def as_ordered(run, jobs, command):
        asked.update(jobs)
        files = {
            "40": Splats2d(torch.rand(32, 32, 3), 40),
            "90": Splats2d(torch.rand(32, 32, 3), 90),
        }
        found = {}
        for name, splats in files.items():
            (run.folder / name).mkdir()
            (run.folder / name / "splats.bin").write_bytes(splats.encode())
            metrics = {"gaussians": int(name), "psnr": 20.0, "ssim": 0.5, "bytes": 11 * int(name),
                       "psnr_file": 19.0, "psnr_jpeg": None, "jpeg_bytes": 0}  # fmt: skip
            found[name] = Training(run.folder / name, metrics, True)
        return found

    monkeypatch.setattr("splatting.fit_image.train_all", as_ordered)
    fit_image(replace(SHORT, steps=2, frames=0, seed=3, sweep=(90, 60, 40)))
    assert set(asked) == {"40", "90"}, "60 is the fit itself"
    assert {"--gaussians=90", "--steps=2", "--seed=3", "--size=32"} <= set(asked["90"])
    rows = (runs / "latest/rate.md").read_text().splitlines()[2:]
    assert [row.split()[1] for row in rows] == ["40", "60", "90"]
    assert (runs / "latest/rate.png").stat().st_size > 5000


def test_turned_ellipses_lie_as_they_should():
    """The first axis of angle 0 is x; a positive angle turns it towards y, which points down."""
    splats = Splats2d(torch.zeros(21, 21, 3), 1)
    with torch.no_grad():
        splats.places.copy_(torch.tensor([[10.5, 10.5]]) / splats.spacing)
        splats.log_sizes.copy_((torch.tensor([[5.0, 0.5]]) / splats.spacing).log())
        splats.opacity_logits.fill_(4)
        splats.colours.fill_(1)
        places = {0.0: ((10, 16), (16, 10)), np.pi / 4: ((14, 14), (6, 14)),
                  np.pi / 2: ((16, 10), (10, 16))}  # fmt: skip
        for angle, (bright, dark) in places.items():
            splats.angles.fill_(angle)
            image = splats()[..., 0]
            assert image[bright] > 0.3
            assert image[dark] < 1e-3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gaussians": 2000}, "must be 4 to 1820"),
        ({"gaussians": 3}, "must be 4 to"),
        ({"sweep": (100, 5000)}, "--sweep must be 4 to 1820, not 5000"),
        ({"size": 8}, "--size"), ({"lr": 0.0}, "--lr"), ({"eval_every": 0}, "--eval-every"),
        ({"frames": -1}, "--frames"), ({"precision": "bf16"}, "--precision"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(wrong, said):
    with pytest.raises(LabError, match=said) as caught:
        FitConfig(**wrong)
    assert "\n" not in str(caught.value)
