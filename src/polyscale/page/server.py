"""The local server: one page, and one address that takes an image.

It listens on the loopback device only and reads no file for a request. The Host header is compared, so that a name that
somebody points at 127.0.0.1 (DNS rebinding) reaches nothing, and the Origin header, so that no other site can send
images.
"""

import json
import sys
import threading
import traceback
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polyscale
from polyscale.errors import UserError
from polyscale.evaluation.recording import fusion_of
from polyscale.inference.predictor import Predictor
from polyscale.page.look import look_at
from polyscale.pictures import HEAT_COLORS
from polyscale.report.build import STAGE, page_environment, script, script_hash
from polyscale.report.palettes import distinct_colors
from polyscale.report.ways import AVERAGE, map_name, mixed_scales, scale_color
from polyscale.scales import check_scales

__all__ = ["MOST_BYTES", "PageServer"]

HOST = "127.0.0.1"
MOST_BYTES = 64_000_000
"""The largest file that is taken."""

AT_ONCE = 4
"""Files that are in memory at a time; others wait."""

SCALES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SIZES = (512, 768, 1024, 1536, 2048, 4096)
MOST_SCALES = 16
LONGEST = 1024
SECONDS = 60
"""A connection that says nothing for so long is closed."""


class PageServer(ThreadingHTTPServer):
    """Serves the page of one network until ``shutdown``.

    Args:
        predictor: the network.
        name: of it, as the page prints it.
        facts: more to print, such as its licence.
        port: to listen on; 0 takes a free one.

    Raises:
        UserError: the port is taken.
    """

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, predictor: Predictor, name: str, facts: Sequence[str] = (), port: int = 0) -> None:
        self.predictor = predictor
        self.page, self.policy = _page(predictor, name, facts)
        self.one_by_one = threading.Lock()
        self.few = threading.BoundedSemaphore(AT_ONCE)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"cannot listen on port {port} ({error}); choose another with --port") from None

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A browser that goes away is no error of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            traceback.print_exc()


def _page(predictor: Predictor, name: str, facts: Sequence[str]) -> tuple[bytes, str]:
    """The page, and its content security policy."""
    model, space = predictor.model, predictor.label_space
    scales = sorted(model.eval_scales if model.fixed else {*SCALES, *model.eval_scales})
    named = [f"{scale:g}" for scale in scales]
    own = tuple(item.color for item in space.classes)
    program = script((*STAGE, "try"))
    data = {
        "classes": list(space.names),
        "distinct": [list(color) for color in distinct_colors(own)],
        "own": [list(color) for color in own],
        "scales": named,
        "weighted": named,
        "scale_colors": [list(scale_color(k)) for k in range(len(scales))],
        "heat": [list(color) for color in HEAT_COLORS],
        "method": model.method,
        "fusion": fusion_of(model),
        "rival": {"map": map_name(AVERAGE), "name": "average"},
        "images": [],
        "order": [],
        "coverage": None,
        "coverage_lowest": None,
    }
    text = page_environment().get_template("try.html.j2").render(
        network=name, facts=facts, data=data, chosen=[f"{scale:g}" for scale in model.eval_scales], fixed=model.fixed,
        sizes=SIZES, longest=LONGEST, most_bytes=MOST_BYTES, most_megabytes=MOST_BYTES // 1_000_000, live=True,
        mixer=mixed_scales(model.method, named, named), scripts=program, version=polyscale.__version__,
    )  # fmt: skip
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{script_hash(program)}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = SECONDS
    server_version, sys_version = "polyscale", ""

    def do_GET(self) -> None:
        """The page, and nothing else."""
        if not self._from_here():
            return
        if self._address()[0] != "/":
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)

    def do_POST(self) -> None:
        """Look at the image that is sent."""
        if not self._from_here():
            return
        path, query = self._address()
        length = self.headers.get("Content-Length", "")
        if path != "/look":
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
        elif not length.isdecimal():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the size of the image was not told")
        elif len(length) > 18 or int(length) > MOST_BYTES:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the file is larger than {MOST_BYTES // 1_000_000} MB; make it smaller",
            )
        else:
            with self.server.few:
                self._look(query, self.rfile.read(int(length)))

    def _look(self, query: str, content: bytes) -> None:
        asked = {key: values[0] for key, values in parse_qs(query).items()}
        name = "".join(char for char in asked.get("name", "image")[:200] if char.isprintable()) or "image"
        try:
            scales, longest = _choice(asked)
            with self.server.one_by_one:
                answer = look_at(self.server.predictor, content, name, scales, longest)
        except UserError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except Exception:
            traceback.print_exc()
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong; the terminal shows what")
        else:
            self._send(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def _address(self) -> tuple[str, str]:
        """Path and query that are asked for; both empty for what is no address."""
        try:
            address = urlsplit(self.path)
        except ValueError:
            return "", ""
        return address.path, address.query

    def _from_here(self) -> bool:
        port = self.server.server_port
        allowed = (f"{HOST}:{port}", f"localhost:{port}")
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        if host in allowed and (origin is None or origin == f"http://{host}"):
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"open the page at {self.server.url}")
        return False

    def _refuse(self, status: HTTPStatus, line: str) -> None:
        self._send(status, "application/json", json.dumps({"error": " ".join(line.split())}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.close_connection = True
        self.send_response(status)
        for key, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", self.server.policy),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Nothing: the terminal is the user's."""


def _choice(asked: dict[str, str]) -> tuple[tuple[float, ...], int]:
    """Scales and longest side that the page asks for.

    Raises:
        UserError: they make no sense.
    """
    try:
        scales = check_scales([float(part) for part in asked.get("scales", "1").split(",")])
        longest = int(asked.get("longest", LONGEST))
    except ValueError as error:
        raise UserError(f"scales are numbers, 1 among them: {error}") from None
    if not 16 <= longest <= max(SIZES) or max(scales) > 4 or len(scales) > MOST_SCALES:
        raise UserError(
            f"the longest side must be 16 to {max(SIZES)} pixels, scales {MOST_SCALES} or fewer, and each at most 4"
        )
    return scales, longest
