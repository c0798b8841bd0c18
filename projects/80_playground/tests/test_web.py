"""The page's server by hand, and the page itself in a headless browser."""

import base64
import fcntl
import http.client
import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from playground.config import PlayConfig
from playground.net import save_net
from playground.preprocess import as_bytes
from playground.samples import Samples
from playground.web import BODY_LIMIT, Server, read_strokes
from trainloop import LabError

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


@pytest.fixture
def config(tmp_path, taught) -> PlayConfig:
    save_net(tmp_path / "taught.npz", taught)
    return PlayConfig(home=tmp_path / "web", model=str(tmp_path / "taught.npz"), port=0)


@pytest.fixture
def server(config):
    with Server(config) as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.05,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def ask(server: Server, method: str, path: str, body: object = None, **headers):
    """(status, parsed answer, headers)."""
    connection = http.client.HTTPConnection(*server.server_address, timeout=10)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **headers}
    connection.request(method, path, content, sent)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    parsed = json.loads(text) if answer.headers["Content-Type"].endswith("json") else text
    return answer.status, parsed, answer.headers


def test_it_listens_to_this_machine_only(server):
    assert PlayConfig().host == "127.0.0.1"
    assert server.server_address[0] == "127.0.0.1"


def test_guesses_are_those_of_the_window(server, points, session, draw, taught):
    status, found, _ = ask(server, "POST", "/guess", {"strokes": points(7), "pen": 22})
    assert status == 200
    session.trainer.use(taught)
    draw(session, 7)
    seen = session.look()
    assert int(np.argmax(found["probabilities"])) == seen.answer == 7
    np.testing.assert_allclose(found["probabilities"], seen.with_steps, atol=1e-4)
    np.testing.assert_allclose(found["without"], seen.without, atol=1e-4)
    assert base64.b64decode(found["image"]) == as_bytes(seen.prepared.image).tobytes()
    assert ask(server, "POST", "/guess", {"strokes": []})[:2] == (200, {})


def test_a_label_is_on_disk_when_it_is_answered(server, config, points):
    status, found, _ = ask(server, "POST", "/label", {"strokes": points(3), "label": 3})
    assert (status, found["counts"][3]) == (200, 1)
    copy = config.home.with_name("copy")
    shutil.copytree(config.home, copy)
    samples = Samples(copy)
    assert samples.counts()[3] == 1
    samples.close()
    assert ask(server, "GET", "/state")[1]["counts"] == found["counts"]


def test_many_at_once_lose_none(server, points):
    body = {"strokes": points(5), "label": 5}
    threads = [
        threading.Thread(target=ask, args=(server, "POST", "/label", body)) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ask(server, "GET", "/state")[1]["counts"][5] == 12


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/guess", b"{", {}, 400),
        ("/guess", b"[" * 50_000, {}, 400),
        ("/guess", {"strokes": 3}, {}, 400),
        ("/guess", [1], {}, 400),
        ("/guess", {"strokes": [[[1]]]}, {}, 400),
        ("/guess", b'{"strokes": [[[NaN, 1]]]}', {}, 400),
        ("/guess", b'{"strokes": [[[1e999, 1]]]}', {}, 400),
        ("/guess", {"strokes": [[[1, 1]]], "pen": 1e9}, {}, 400),
        ("/guess", {"strokes": [[[1, 1]] * 6000]}, {}, 400),
        ("/guess", {"strokes": [[[1, 1]]] * 300}, {}, 400),
        ("/label", {"strokes": [[[9, 9]]], "label": 10}, {}, 400),
        ("/label", {"strokes": [[[9, 9]]], "label": True}, {}, 400),
        ("/label", {"strokes": [[[9, 9]]], "label": "../3"}, {}, 400),
        ("/label", {"strokes": [], "label": 3}, {}, 400),
        ("/guess", {"strokes": []}, {"Content-Type": "text/plain"}, 415),
        ("/guess", {"strokes": []}, {"Content-Length": str(BODY_LIMIT + 1)}, 413),
        ("/guess", {"strokes": []}, {"Content-Length": "-1"}, 413),
        ("/guess", {"strokes": []}, {"Content-Length": "many"}, 411),
        ("/guess", {"strokes": []}, {"Host": "evil.example"}, 403),
        ("/../../etc/passwd", {}, {}, 404),
    ],
)
def test_nonsense_is_one_line(server, path, body, headers, status):
    found, said, _ = ask(server, "POST", path, body, **headers)
    assert found == status
    assert len(said["error"]) < 300
    assert ask(server, "GET", "/state")[1]["counts"] == [0] * 10


def test_the_page_needs_nothing_from_elsewhere(server):
    status, page, headers = ask(server, "GET", "/")
    assert status == 200
    assert b"http://" not in page
    assert b"https://" not in page
    assert b"src=" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(server, "GET", "/page.html")[0] == 404
    assert ask(server, "GET", "/", Host="evil.example")[0] == 403


def test_no_model_a_taken_port_and_a_folder_in_use_are_said(config, tmp_path, server):
    with pytest.raises(LabError, match="no model to guess with"):
        Server(replace(config, model="", home=tmp_path / "other"))
    with pytest.raises(LabError, match="open in another window"):
        Server(config)
    taken = replace(config, home=tmp_path / "other", port=server.server_address[1])
    with pytest.raises(LabError, match="cannot serve on"):
        Server(taken)
    Samples(tmp_path / "other").close()  # and it lets the folder go


def test_strokes_are_read(points):
    read = read_strokes({"strokes": points(4), "pen": 10})
    assert len(read) == 2
    assert read[0].width == 10


class Browser:
    """A headless Chromium, spoken to in its DevTools protocol over a pair of pipes."""

    def __init__(self, home) -> None:
        pairs = [os.pipe(), os.pipe()]
        # Numbers above what the child's own 3 and 4 will be.
        (read, self.write), (self.read, write) = [
            tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in pair) for pair in pairs
        ]
        for end in (*pairs[0], *pairs[1]):
            os.close(end)

        def hand_over() -> None:
            os.dup2(read, 3)
            os.dup2(write, 4)

        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={home}",
            "--remote-debugging-pipe",
        ]
        self.process = subprocess.Popen(
            [BROWSER, *flags, "about:blank"],
            preexec_fn=hand_over,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self.number, self.kept, self.session = 0, b"", None

    def call(self, method: str, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.kept:
                part = os.read(self.read, 1 << 16)
                assert part, "the browser is gone"
                self.kept += part
            text, _, self.kept = self.kept.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, address: str) -> None:
        target = self.call("Target.createTarget", url=address)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]

    def value(self, script: str):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get(
            "value"
        )

    def until(self, script: str, wanted: object, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while self.value(script) != wanted:
            assert time.monotonic() < end, f"{script} is {self.value(script)!r}, not {wanted!r}"
            time.sleep(0.1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.read)
        os.close(self.write)


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome on PATH: the page was NOT RUN")
def test_draw_guess_and_label_in_a_browser(server, points, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(server.address)
        browser.until("document.body?.dataset.samples", "0")
        box = browser.value(
            "JSON.stringify(document.getElementById('draw').getBoundingClientRect())"
        )
        box = json.loads(box)
        scale = box["width"] / 280
        for digit in (7, 1):
            for stroke in points(digit):
                place = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in stroke]
                press = {"button": "left", "buttons": 1, "clickCount": 1}
                for kind, (x, y) in (
                    ("mousePressed", place[0]),
                    *(("mouseMoved", one) for one in place[1:]),
                    ("mouseReleased", place[-1]),
                ):
                    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **press)
            browser.until("document.body.dataset.answer", str(digit))
            said = browser.value("document.getElementById('answer').textContent")
            assert said == f"I think it is a {digit}"
            browser.call("Input.dispatchKeyEvent", type="keyDown", key=str(digit))
            browser.until("document.getElementById('said').textContent", f"Saved as a {digit}.")
            browser.until("document.body.dataset.answer", "-1")  # and the canvas is empty again
        assert browser.value("document.body.dataset.samples") == "2"
        shot = base64.b64decode(browser.call("Page.captureScreenshot")["data"])
        (tmp_path / "page.png").write_bytes(shot)
    finally:
        browser.close()
    assert server.samples.counts()[7] == server.samples.counts()[1] == 1
