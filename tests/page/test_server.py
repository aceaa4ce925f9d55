"""What the server answers, and to whom."""

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from polyscale.errors import UserError
from polyscale.page import PageServer
from polyscale.page import look as look_module
from polyscale.page import server as server_module


def ask(server, method="GET", path="/", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    return reply.status, reply.read(), reply.headers


def looked(server, body, query="scales=0.5,1,2&name=a.png", **headers):
    status, answer, _ = ask(server, "POST", f"/look?{query}", body, **headers)
    return status, json.loads(answer)


def values(answer, name):
    content = base64.b64decode(answer["stored"]["files"][name])
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_page_names_the_network_and_its_classes_as_text(server):
    status, page, headers = ask(server)
    assert status == 200
    assert b"Try toys" in page
    assert b"weights of nobody" in page
    assert b"&lt;b&gt;pole&lt;/b&gt;" in page
    assert b"<b>pole" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "sha256-" in headers["Content-Security-Policy"]


def test_an_image_is_looked_at_as_predict_does(server, predictor, photo):
    status, answer = looked(server, photo)
    assert status == 200
    expected = predictor.predict(Image.open(io.BytesIO(photo)), (0.5, 1, 2))
    assert answer["stored"]["size"] == [60, 90]
    assert (values(answer, "fused") == expected.labels).mean() >= 0.999
    for scale in ("0.5", "1", "2"):
        assert values(answer, f"scale-{scale}").shape == (60, 90)
        assert answer["stored"]["logits"][scale]["grid"] == [
            round(float(scale) * 15),
            -(-round(float(scale) * 90) // 4),
        ]
    weights = sum(values(answer, f"weight-{scale}").astype(int) for scale in ("0.5", "1", "2"))
    assert abs(weights - 255).max() <= 2
    assert values(answer, "attention-0.5").size == np.prod(answer["stored"]["logits"]["0.5"]["attention"])
    assert "truth" not in answer["stored"]["files"]


def test_one_scale_alone(server, photo):
    status, answer = looked(server, photo, "scales=1")
    assert status == 200
    assert not {"average", "scale-1", "weight-1"} & set(answer["stored"]["files"])


def test_a_large_image_is_made_smaller_and_that_is_said(server, photo):
    status, answer = looked(server, photo, "scales=1&longest=45")
    assert status == 200
    assert answer["stored"]["size"] == [30, 45]
    assert answer["note"].startswith("45 x 30, made smaller from 90 x 60")


@pytest.mark.parametrize("body", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_image_is_one_line(server, body):
    status, answer = looked(server, body)
    assert status == 422
    assert "a.png" in answer["error"]
    assert "\n" not in answer["error"]
    assert "BytesIO" not in answer["error"]


def test_a_cut_image_is_one_line(server, photo):
    status, answer = looked(server, photo[: len(photo) // 2])
    assert status == 422
    assert answer["error"].startswith("a.png")


def test_too_many_pixels_are_refused_before_they_are_decoded(server, photo, monkeypatch):
    monkeypatch.setattr(look_module, "MOST_PIXELS", 60 * 90 - 1)
    status, answer = looked(server, photo)
    assert status == 422
    assert "90 x 60 pixels" in answer["error"]


def test_a_huge_file_is_refused_before_it_is_read(server, monkeypatch):
    monkeypatch.setattr(server_module, "MOST_BYTES", 1_000_000)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
        host = f"127.0.0.1:{server.server_port}"
        connection.sendall(f"POST /look HTTP/1.1\r\nHost: {host}\r\nContent-Length: 999999999999\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert b" 413 " in answer.splitlines()[0]
    assert b"larger than 1 MB" in answer


@pytest.mark.parametrize(
    ("line", "length", "status"),
    [("POST /look", "9" * 5000, b" 413 "), ("POST http://[", "0", b" 404 "), ("GET http://[", "0", b" 404 ")],
)
def test_a_line_that_makes_no_sense_is_answered(server, line, length, status, capsys):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
        host = f"127.0.0.1:{server.server_port}"
        connection.sendall(f"{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert status in answer.splitlines()[0]
    assert "Traceback" not in capsys.readouterr().err


def test_a_few_files_at_a_time_are_in_memory(predictor, photo):
    """Those who only begin to send take all places, and one more waits until a place is free."""
    with PageServer(predictor, "toys") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        begun = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(server_module.AT_ONCE)]
        for connection in begun:
            connection.sendall(f"POST /look HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n".encode())
        while server.few.acquire(blocking=False):  # until all have their place
            server.few.release()
        late = socket.create_connection(("127.0.0.1", server.server_port), timeout=0.3)
        late.sendall(f"POST /look HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx".encode())
        with pytest.raises(TimeoutError):
            late.recv(1)
        for connection in begun:
            connection.close()
        late.settimeout(60)
        assert late.makefile("rb").readline().split()[1] == b"422"
        late.close()
        server.shutdown()


@pytest.mark.parametrize(
    "query",
    [
        "scales=0.5,2",
        "scales=x",
        "scales=1,9",
        "scales=1&longest=99999",
        "scales=nan,1",
        f"scales=1,{','.join(f'0.{k}' for k in range(10, 60))}",
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(server, photo, query):
    status, answer = looked(server, photo, query)
    assert status == 422
    assert len(answer["error"]) > 10


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
def test_other_sites_reach_nothing(server, photo, headers):
    """DNS rebinding shows as a foreign Host, another site's script as a foreign Origin."""
    for method, path, body in (("GET", "/", None), ("POST", "/look?scales=1", photo)):
        status, answer, _ = ask(server, method, path, body, **headers)
        assert status == 403
        assert b"Try toys" not in answer


@pytest.mark.parametrize("path", ["/etc/passwd", "/../pyproject.toml", "//etc/passwd", "/page.css", "/look"])
def test_no_file_is_served(server, path):
    assert ask(server, path=path)[0] == 404


def test_it_listens_on_the_loopback_device_only(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_taken_port_is_said_in_one_line(server, predictor):
    with pytest.raises(UserError, match="cannot listen on port"):
        PageServer(predictor, "toys", port=server.server_port)


@pytest.mark.slow
def test_ctrl_c_ends_the_command_cleanly(tmp_path):
    arguments = [sys.executable, "-m", "polyscale", "try", "--no-open"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    ) as process:
        try:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", process.stdout.readline())
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0
    assert out == ""
    assert err.splitlines() == ["Ctrl-C ends it", "ended"]
