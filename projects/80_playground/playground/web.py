"""The same canvas and guesses in a browser: one page, no other file, nothing from elsewhere.

Served on 127.0.0.1 unless asked otherwise. The server takes strokes and returns guesses; it reads
no path and writes nothing but samples.
"""

import base64
import ipaddress
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from playground.config import PlayConfig
from playground.preprocess import CANVAS, Stroke, as_bytes, rasterise
from playground.samples import Samples
from playground.session import Look, first_net, look
from trainloop import LabError, check

BODY_LIMIT = 256 << 10  # bytes of a request
MOST_STROKES, MOST_POINTS = 200, 5000  # of a drawing
PAGE = Path(__file__).with_name("page.html")
# The page may talk to this server and to nobody else, and nobody may frame it.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'"
)


class Server(ThreadingHTTPServer):
    """Answers GET / and /state, POST /guess and /label.

    Raises:
        LabError: the port is taken, the host is not one of this machine's, or the folder of the
            samples is in use.
    """

    daemon_threads = True

    def __init__(self, config: PlayConfig) -> None:
        self.net = first_net(config)
        check(
            self.net is not None,
            "there is no model to guess with: `uv run --package playground train` first, or name "
            "one with --model",
        )
        self.samples, self.turn = Samples(config.home), threading.Lock()
        self.page = PAGE.read_bytes()
        try:
            super().__init__((config.host, config.port), Handler)
        except (OSError, OverflowError) as error:
            self.samples.close()
            said = getattr(error, "strerror", None) or error
            raise LabError(f"cannot serve on {config.host}:{config.port}: {said}") from None
        self.address = f"http://{config.host}:{self.server_address[1]}/"

    def server_close(self) -> None:
        super().server_close()
        self.samples.close()

    def state(self) -> dict[str, Any]:
        """How many samples there are of each digit, and the net's layers."""
        return {"counts": self.samples.counts(), "layers": list(self.net.sizes)}

    def guess(self, strokes: list[Stroke]) -> dict[str, Any]:
        """Probabilities, with and without the preparation, and what the net sees."""
        seen = look(rasterise(strokes), self.net)
        return {} if seen is None else _told(seen)

    def label(self, strokes: list[Stroke], digit: int) -> dict[str, Any]:
        """Keep a drawing; it is on disk when this returns."""
        seen = look(rasterise(strokes), self.net)
        if seen is None:
            raise ValueError("nothing is drawn")
        with self.turn:
            self.samples.add(as_bytes(seen.prepared.image), digit)
            return self.state()


class Handler(BaseHTTPRequestHandler):
    """One request. What is wrong with it is answered in a line, never with a traceback."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "playground", ""
    timeout = 20  # s without a byte: then the connection is closed

    def do_GET(self) -> None:
        if not self._is_for_us():
            return
        if self.path == "/":
            self._answer(200, self.server.page, "text/html; charset=utf-8")
        elif self.path == "/state":
            self._say(200, self.server.state())
        else:
            self._say(404, {"error": f"there is no {self.path[:80]} here"})

    def do_POST(self) -> None:
        if not self._is_for_us():
            return
        if self.path not in ("/guess", "/label"):
            self._refuse(404, f"there is no {self.path[:80]} here")
            return
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self._refuse(411, "Content-Length is missing")
            return
        if not 0 <= length <= BODY_LIMIT:
            self._refuse(413, f"at most {BODY_LIMIT:,} bytes")
            return
        # A page of another site may not send JSON here without asking first, and is never told yes.
        if self.headers.get_content_type() != "application/json":
            self._refuse(415, "send application/json")
            return
        try:
            body = json.loads(self.rfile.read(length))
            strokes = read_strokes(body)
            if self.path == "/guess":
                answer = self.server.guess(strokes)
            else:
                if body.get("label") not in range(10) or isinstance(body["label"], bool):
                    raise ValueError("label must be a digit, 0 to 9")
                answer = self.server.label(strokes, int(body["label"]))
        except (ValueError, RecursionError) as error:
            self._say(400, {"error": str(error)[:200]})
        except LabError as error:
            self._say(507, {"error": str(error)})
        else:
            self._say(200, answer)

    def _is_for_us(self) -> bool:
        """Whether the Host names this server by its address or localhost.

        Else a page elsewhere could give its own name our address and talk to us (DNS rebinding).
        """
        host = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]").lower()
        known = {"localhost", self.server.server_address[0], socket.gethostname().lower()}
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if host not in known:
                self._refuse(403, "open this page by its address")
                return False
        return True

    def _refuse(self, status: int, why: str) -> None:
        """Answer without having read the body: the connection cannot be used again."""
        self.close_connection = True
        self._say(status, {"error": why})

    def _say(self, status: int, content: dict[str, Any]) -> None:
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Every move of the pen is a request: nobody wants to read them."""


def read_strokes(body: Any) -> list[Stroke]:
    """{"strokes": [[[x, y], ...], ...], "pen": width} in canvas pixels; ValueError if it is not."""
    try:
        pen, strokes = float(body.get("pen", 22)), body["strokes"]
        points = sum(len(stroke) for stroke in strokes)
        if len(strokes) > MOST_STROKES or points > MOST_POINTS:
            raise ValueError(f"at most {MOST_STROKES} strokes of {MOST_POINTS:,} points in all")
        if not 2 <= pen <= 80:
            raise ValueError("pen must be 2 to 80 pixels wide")
        read = [Stroke(tuple((float(x), float(y)) for x, y in one), pen) for one in strokes if one]
    except (KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError('send {"strokes": [[[x, y], ...], ...]}') from None
    flat = np.array([value for one in read for point in one.points for value in point])
    if not (np.isfinite(flat).all() and (np.abs(flat - CANVAS / 2) <= CANVAS).all()):
        raise ValueError(f"points must lie on the canvas, 0 to {CANVAS}")
    return read


def _told(seen: Look) -> dict[str, Any]:
    return {
        "image": base64.b64encode(seen.image.tobytes()).decode(),
        "probabilities": [round(float(p), 4) for p in seen.with_steps],
        "without": [round(float(p), 4) for p in seen.without],
    }


def serve(config: PlayConfig) -> None:
    """Serve until Ctrl-C."""
    with Server(config) as server:
        print(f"open {server.address} in a browser; Ctrl-C stops", flush=True)
        if not ipaddress.ip_address(server.server_address[0]).is_loopback:
            print(
                "note: everybody in this network can draw here and add samples, without a password",
                flush=True,
            )
        server.serve_forever()
