import threading

import pytest
from PIL import Image

from polyscale.data import parallel
from polyscale.data.parallel import in_parallel, pixels_of


def test_results_come_in_the_order_of_jobs():
    steps = []
    found = in_parallel([3, 1, 2], lambda job: job * 10, 2, lambda *step: steps.append(step))
    assert list(found) == [30, 10, 20]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_the_pixels_of_all_threads_together_are_bounded(monkeypatch):
    monkeypatch.setattr(parallel, "MOST_PIXELS", 100)
    held, most, lock = [0], [0], threading.Lock()
    several = threading.Barrier(2)

    def work(size):
        with lock:
            held[0] += size
            most[0] = max(most[0], held[0])
        if size == 50:
            several.wait(timeout=60)  # two of these fit, so they are under way together
        with lock:
            held[0] -= size
        return size

    jobs = [50, 50, 100, 300, 50, 50]
    assert list(in_parallel(jobs, work, 6, pixels=lambda size: size)) == jobs
    assert most[0] == 300  # one that alone is too large is worked on alone


def test_a_failure_gives_back_what_it_held(monkeypatch):
    monkeypatch.setattr(parallel, "MOST_PIXELS", 1)

    def work(job):
        if job == 0:
            raise ValueError("first")
        return job

    with pytest.raises(ValueError, match="first"):
        list(in_parallel([0, 1, 2], work, 2, pixels=lambda _: 1))


def test_pixels_are_read_from_headers(tmp_path):
    Image.new("L", (7, 5)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert pixels_of(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "none.png", None) == 35
