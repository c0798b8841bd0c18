"""The page: what it holds, and what a browser draws of it."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from splatting import metrics
from splatting.config import ViewConfig
from splatting.data import load
from splatting.figures import orbit, surroundings
from splatting.ply import write_ply
from splatting.render import Renderer
from splatting.view import TEXELS, page, view

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")


def scene_of(text):
    found = re.search(r'<script id="scene" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def test_the_page_asks_for_nothing(make_gaussians, camera):
    up = torch.tensor([0.0, 0, 1])
    text = page(make_gaussians(7), camera, torch.zeros(3), up, torch.ones(3), title="</script><b>")
    assert not re.search(r"https?://|src=|href=|@import|fetch\(", text)
    scene = scene_of(text)
    assert scene["count"] == 7
    assert scene["title"] == "</script><b>"
    assert len(scene["splats"]) == pytest.approx(7 * TEXELS * 16 * 4 / 3, abs=4)


def test_view_writes_a_page(learned, make_gaussians, tmp_path, capsys):
    out = tmp_path / "new/a.html"
    view(ViewConfig(model=str(learned / "last.pt"), out=out))
    scene = scene_of(out.read_text())
    assert scene["background"] == pytest.approx([0.55, 0.66, 0.78], abs=1e-6)
    assert np.allclose(scene["up"], [0, 0, 1], atol=1e-4)
    assert np.allclose(scene["target"], [0, 0, 0.2], atol=1e-3)
    write_ply(tmp_path / "b.ply", make_gaussians(9))
    view(ViewConfig(model=str(tmp_path / "b.ply"), out=tmp_path / "b.html"))
    assert "9 Gaussians" in capsys.readouterr().out


@needs_browser
def test_a_browser_draws_what_the_rasteriser_draws(make_gaussians, tmp_path):
    """All of it: projection, harmonics, sorting and blending, by another program."""
    size = 256
    scene = load("tabletop", 32)
    camera = orbit(scene.train, 1, size)[0]
    middle, up = surroundings(scene.train)
    gaussians = make_gaussians(400)
    background = torch.tensor([0.2, 0.4, 0.3])
    path, shot = tmp_path / "a.html", tmp_path / "a.png"
    path.write_text(page(gaussians, camera, middle, up, background))
    subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--use-angle=swiftshader",
         "--use-gl=angle", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size},{size}",
         f"--screenshot={shot}", f"{path.as_uri()}#bare"],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    drawn = torch.from_numpy(
        np.asarray(Image.open(shot).convert("RGB"))[:size, :size] / 255
    ).float()
    expected = Renderer()(gaussians, camera, background).image.detach().clamp(0, 1)
    assert metrics.psnr(drawn, expected) > 35
