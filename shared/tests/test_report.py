"""The page of all runs: what is on it, what cannot happen on it, and that a browser draws it."""

import json
import re
import shutil
import subprocess
import sys
import time

import pytest
from PIL import Image

from trainloop import report as reporting
from trainloop.report import report, thinned, write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH: the page NOT RUN")
NASTY = "<script>document.title='run'</script>"


@pytest.fixture
def record(runs):
    """Writes a run as a training leaves it, and returns its folder."""

    def write(project="rl", name="2026-01-01_00-00-00", points=50, picture=None, done=True, **more):
        folder = runs / project / name
        folder.mkdir(parents=True)
        about = {
            "project": project, "command": "train", "config": {"steps": points, "seed": 3},
            "overrides": {}, "commit": "abc", "device": "cpu", "torch": "2.7.1",
            "started": f"{name[:10]}T00:00:00+00:00", **more,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(about))
        lines = [{"step": i, "loss": 1 / i, "accuracy": i / points} for i in range(1, points + 1)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
        if done:
            metrics = {"loss": 0.1, "test/accuracy": 0.9, "wall_seconds": 61.0}
            (folder / "summary.json").write_text(json.dumps({**about, "metrics": metrics}))
        if picture is not None:
            Image.new("RGB", picture, "teal").save(folder / "worst.png")
        return folder

    return write


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_what_is_on_it(record, runs, monkeypatch, tmp_path):
    record(name="2026-01-01_00-00-00", picture=(300, 200))
    folder = record(name="2026-01-02_00-00-00", done=False, overrides={"lr": 0.5})
    (folder / "timing.jsonl").write_text('{"step": 20, "wall_seconds": 9.5}\n')
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 51, "lo')  # it goes on while the page is made
    (tmp_path / "LEARNING.md").write_text(
        "# Learning\n\n## 2026-01-01 · rl\n\n- **Worked**: it\n\n## 2026-01-02 · mnist\n\nno\n"
    )
    monkeypatch.setattr(reporting, "workspace_root", lambda: tmp_path)
    monkeypatch.setattr(reporting, "project_folders", lambda: {"rl": tmp_path / "projects/30_rl"})
    page, count, pictures = report(["rl"])
    assert count == 2
    assert (pictures.embedded, pictures.found) == (1, 1)
    data = data_of(page)
    going_on, finished = data["runs"]  # newest first
    assert going_on["state"] == "saved at 20 of 50"
    assert going_on["seconds"] == 9.5
    assert going_on["overrides"] == {"lr": 0.5}
    assert going_on["metrics"]["loss"] == 1 / 50
    assert going_on["curves"]["loss"][0] == list(range(1, 51))
    assert finished["finished"]
    assert finished["headline"] == "test/accuracy 0.9"
    assert finished["seconds"] == 61.0
    assert finished["pictures"][0]["src"].startswith("data:image/png;base64,iVBOR")
    assert data["projects"][0]["cover"] == 1
    assert [row["id"] for row in data["projects"][0]["done_when"]]
    assert [entry["projects"] for entry in data["learning"]] == [[], ["rl"]]


def test_it_asks_nothing_of_the_network(record):
    record(picture=(30, 20))
    page = reporting.PAGE.read_text("utf-8")
    without_names = page.replace('"http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|src=|href=|@import|url\(\"?h|fetch\(|innerHTML", without_names)
    assert "default-src 'none'" in page


def test_three_hundred_runs_within_five_seconds(record, runs, tmp_path):
    """A page of all of them, with its curves thinned and its pictures limited."""
    for number in range(300):
        project = ("rl", "mnist", "diffusion")[number % 3]
        record(project, f"2026-01-01_{number:06}", 500, (640, 400) if number % 2 else None)
    start = time.process_time()
    count, pictures = write_report(tmp_path / "all.html", ["rl", "mnist", "diffusion"])
    assert time.process_time() - start < 5
    assert count == 300
    assert pictures.found == 150
    assert pictures.embedded == 3 * reporting.PICTURED_RUNS
    assert (tmp_path / "all.html").stat().st_size < 30e6
    data = data_of((tmp_path / "all.html").read_text("utf-8"))
    assert all(len(run["curves"]["loss"][0]) <= 200 for run in data["runs"])
    pictured = [run["name"] for run in data["runs"] if run["pictures"] and run["project"] == "rl"]
    assert pictured == sorted((f"2026-01-01_{n:06}" for n in (297, 291, 285, 279)), reverse=True)


def test_a_spike_survives_the_thinning():
    values = [1.0] * 5000
    values[3333], values[3334] = 99.0, -7.0
    steps, kept = thinned(list(range(1, 5001)), values)
    assert len(steps) <= 200
    assert steps == sorted(set(steps))
    assert {99.0, -7.0} <= set(kept)
    assert steps[kept.index(99.0)] == 3334
    assert thinned([1, 2], [0.123456789, 2.0]) == ([1, 2], [0.12346, 2.0])


def test_large_pictures_are_scaled_down_and_broken_ones_left_out(record, tmp_path):
    folder = record()
    Image.effect_noise((2400, 1200), 90).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"\x89PNG no picture")
    frames = [Image.effect_noise((300, 300), 90 + i) for i in range(12)]
    frames[0].save(folder / "c.gif", save_all=True, append_images=frames[1:])
    assert (folder / "c.gif").stat().st_size > reporting.PICTURE_BYTES
    pictures = data_of(report(["rl"])[0])["runs"][0]["pictures"]
    assert [picture["name"] for picture in pictures] == ["a.png", "c.gif"]
    assert all(picture["src"].startswith("data:image/webp;") for picture in pictures)
    assert all(len(picture["src"]) < reporting.PICTURE_BYTES * 4 / 3 + 100 for picture in pictures)


def test_all_pictures_together_have_a_limit(record, monkeypatch):
    monkeypatch.setattr(reporting, "ALL_BYTES", 3000)
    for project in ("rl", "mnist"):
        for day in (1, 2, 3):
            folder = record(project, f"2026-01-0{day}_00-00-00")
            Image.effect_noise((30, 30), 90).save(folder / "a.png")
    page, _, pictures = report(["rl", "mnist"])
    assert 2 <= pictures.embedded < pictures.found == 6
    assert pictures.size <= 3000
    seen = {run["project"] for run in data_of(page)["runs"] if run["pictures"]}
    assert seen == {"rl", "mnist"}, "the projects take turns"


def test_what_is_no_run_is_counted_and_left_out(record, runs):
    record()
    for name, text in {"a": "{", "b": "[]", "c": '{"command": 1}', "d": '{"config": {}}'}.items():
        (runs / "rl" / name).mkdir()
        (runs / "rl" / name / "config.json").write_text(text)
    (runs / "rl/e").mkdir()
    data = data_of(report(["rl"])[0])
    assert [run["name"] for run in data["runs"]] == ["2026-01-01_00-00-00"]
    assert data["unreadable"] == 5


def test_nan_in_a_run_is_no_reason_to_fail(record):
    folder = record(config={"steps": 9, "seed": 0, "lr": float("inf")})
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"]["test/accuracy"] = float("nan")
    (folder / "summary.json").write_text(json.dumps(summary))
    run = data_of(report(["rl"])[0])["runs"][0]
    assert run["metrics"]["test/accuracy"] == "nan"
    assert run["config"]["lr"] == "inf"


def test_the_command(runs, record):
    record()
    code = (
        "import sys; from trainloop.lab import main; sys.argv[1:] = ['report', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 runs and 0 of 0 pictures" in done.stdout
    assert (runs / "report.html").is_file()
    one = runs.parent / "sub/one.html"
    words = ["--out", str(one), "--project", "80"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [p["name"] for p in data_of(one.read_text())["projects"]] == ["playground"]
    for words in (["--project", "nothing"], ["--out", str(runs)]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@needs_browser
def test_a_browser_draws_it_and_runs_nothing_of_a_run(record, runs, tmp_path):
    """Whatever a run says of itself stays text; filter, details and comparison work."""
    record(name="2026-01-01 " + NASTY.replace("/", "|"), command=NASTY, commit=NASTY,
           picture=(64, 64), config={"steps": 9, "seed": 0, "lr": 0.1, NASTY: NASTY},
           overrides={NASTY: NASTY})  # fmt: skip
    record(name="2026-01-02_00-00-00", config={"steps": 9, "seed": 0, "lr": 0.2})
    record("mnist", "2026-01-03_00-00-00")
    page, _, _ = report(["rl", "mnist"])
    assert NASTY not in page
    probe = """<script>
      const out = {all: document.querySelectorAll("tr.run").length};
      document.querySelectorAll("button.project")[0].click();
      out.rl = document.querySelectorAll("tr.run").length;
      for (const line of document.querySelectorAll("tr.run")) line.click();
      out.charts = document.querySelectorAll("tr.detail svg").length;
      out.path = document.querySelector("tr.detail svg path").getAttribute("d").length;
      out.pictures = document.querySelectorAll("tr.detail img").length;
      document.querySelectorAll("input[type=checkbox]")[0].click();
      document.querySelectorAll("input[type=checkbox]")[1].click();
      const rows = [...document.querySelectorAll("#compare tr")];
      const changed = rows.filter((row) => row.querySelector(".changed"));
      out.differ = changed.map((row) => row.cells[0].textContent);
      out.overlaid = document.querySelectorAll("#compare svg:first-of-type path").length;
      out.scripts = document.querySelectorAll("main script").length;
      out.title = document.title;
      document.body.replaceChildren(JSON.stringify(out));
    </script></body>"""
    path = tmp_path / "probed.html"
    path.write_text(page.replace("</body>", probe), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [BROWSER, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=240
    )
    body = re.search(r"<body[^>]*>(.*)</body>", done.stdout, re.DOTALL)
    assert body, done.stderr[-500:]
    out = json.loads(body[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert (out["all"], out["rl"]) == (3, 2)
    assert out["charts"] == 4, "loss and accuracy of both runs"
    assert out["path"] > 100
    assert out["pictures"] == 1
    assert out["differ"] == ["--lr", f"--{NASTY}", "commit"]
    assert out["overlaid"] == 4, "two curves, two runs each"
    assert out["scripts"] == 0
    assert out["title"] == "ML Learning Lab: runs"
