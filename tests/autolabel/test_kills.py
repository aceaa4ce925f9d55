"""Killed at random moments, and by several processes: the folder in the end is that of an uninterrupted run."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
from PIL import Image

from polyscale.autolabel import AutolabelConfig, autolabel, rethreshold
from polyscale.autolabel.folder import clean
from polyscale.autolabel.records import Failure, Journal, latest_lines, read_lines, read_manifest

NUM_IMAGES = 300
"""Enough that twenty kills, each after a few images, leave some to do."""

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(teacher, images, out, *arguments, processes=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [
        sys.executable,
        *(launcher if processes > 1 else []),
        *("-m", "polyscale", "autolabel", "run", str(teacher), str(images), "--out", str(out)),
        *("--confidence", "--batch", "2", "--workers", "2", "--device", "cpu", "--scales", "0.5,1", *arguments),
    ]


@pytest.fixture
def many_images(tmp_path, draw):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(NUM_IMAGES):
        Image.fromarray(draw(number, 64, 96 if number % 7 else 80)).save(folder / f"{number:03}.png")
    return folder


def run(words):
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def written(out):
    """Bytes of the journals; None where a process has just removed them."""
    try:
        return sum(path.stat().st_size for path in out.glob(".journal/labels-*.jsonl"))
    except FileNotFoundError:
        return None


def locked(out):
    """When the folder was last locked."""
    path = out / ".journal" / "lock"
    return path.stat().st_mtime_ns if path.exists() else None


def kill_at_random(words, out, kills, rng, begun=written, longest=0.03):
    """Start the command again and again and kill it soon after ``begun`` changes; returns how many kills hit."""
    hits = 0
    for _ in range(kills):
        before = begun(out)
        process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and begun(out) == before:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        hits += process.wait() == -signal.SIGKILL
    return hits


@pytest.mark.slow
def test_thirty_kills_leave_no_trace(teacher, many_images, tmp_path, content):
    run(command(teacher, many_images, tmp_path / "whole"))
    words = command(teacher, many_images, tmp_path / "killed")
    # A quick machine may be done before the last kills.
    assert kill_at_random(words, tmp_path / "killed", 30, random.Random(0)) >= 15
    run(words)
    whole, killed = content(tmp_path / "whole"), content(tmp_path / "killed")
    assert len(whole) == 3 * NUM_IMAGES + 5
    assert whole == killed


@pytest.mark.slow
def test_kills_while_thresholds_are_chosen_and_applied_again(teacher, many_images, tmp_path, content):
    extra = ("--keep", "0.5,sky=0.7", "--min-region", "5")
    run(command(teacher, many_images, tmp_path / "whole", *extra))
    words, out = command(teacher, many_images, tmp_path / "killed", *extra), tmp_path / "killed"
    assert kill_at_random(words, out, 2, random.Random(3), locked, 0.5) >= 1
    assert kill_at_random(words, out, 4, random.Random(1)) >= 2
    run(words)
    assert content(tmp_path / "whole") == content(tmp_path / "killed")
    again = [sys.executable, "-m", "polyscale", "autolabel", "rethreshold"]
    run([*again, str(tmp_path / "whole"), "--threshold", "0.8"])
    words = [*again, str(tmp_path / "killed"), "--threshold", "0.8"]
    kill_at_random(words, tmp_path / "killed", 2, random.Random(2))
    run(words)
    assert content(tmp_path / "whole") == content(tmp_path / "killed")


@pytest.mark.slow
def test_a_second_run_into_the_folder_is_refused_and_does_no_harm(teacher, many_images, tmp_path, content):
    out = tmp_path / "out"
    words = command(teacher, many_images, out)
    first = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not written(out):
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it holds the folder for as long as the others look
    rethreshold_words = [sys.executable, "-m", "polyscale", "autolabel", "rethreshold", str(out), "--threshold", "0.8"]
    try:
        for second in (words, command(teacher, many_images, out, "--replace", "--threshold", "0.9"), rethreshold_words):
            done = subprocess.run(second, env=ENVIRONMENT, capture_output=True, text=True, check=False)
            assert done.returncode == 2
            assert f"error: another run is labelling into {out}" in done.stderr
            assert done.stderr.count("\n") == 1
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.communicate()[1] is not None
    assert first.returncode == 0
    run(command(teacher, many_images, tmp_path / "alone"))
    assert content(out) == content(tmp_path / "alone")


WORKER = """
import os, sys
from pathlib import Path
from polyscale.cli import main
Path(sys.argv[1], os.environ["RANK"]).write_text(str(os.getpid()))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_and_a_second_call_continues(teacher, many_images, tmp_path, content, victim):
    out, pids = tmp_path / "out", tmp_path / "pids"
    pids.mkdir()
    (tmp_path / "worker.py").write_text(WORKER)
    words = command(teacher, many_images, out, processes=2)
    start = words.index("polyscale") - 1  # in place of -m polyscale
    words[start : start + 2] = [str(tmp_path / "worker.py"), str(pids)]
    launcher = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    journal = out / ".journal" / f"labels-{victim:05d}.jsonl"
    while launcher.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    os.kill(int((pids / str(victim)).read_text()), signal.SIGKILL)
    _, shown = launcher.communicate(timeout=300)
    assert launcher.returncode != 0
    assert "Signal 9 (SIGKILL)" in shown
    with pytest.raises(ProcessLookupError):
        os.kill(int((pids / str(1 - victim)).read_text()), 0)
    run(command(teacher, many_images, out, processes=2))
    run(command(teacher, many_images, tmp_path / "alone"))
    assert content(out) == content(tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_give_the_folder_of_one(teacher, many_images, tmp_path, content):
    (many_images / "000.png").write_bytes(b"broken")
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    for out, processes in ((whole, 1), (shared, 2)):
        words = command(teacher, many_images, out, "--keep", "0.5", processes=processes)
        done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode != 0  # one image is skipped
        assert f"1 of {NUM_IMAGES} images could not be labelled" in done.stderr
    assert content(whole) == content(shared)
    assert len(list(read_manifest(shared))) == NUM_IMAGES - 1


def test_a_run_that_stops_anywhere_is_continued_to_the_same_bytes(teacher, images, tmp_path, content, monkeypatch):
    """Stopped before and after each write of a file, without time for anything else."""
    import polyscale.data.png as png_module

    class Stopped(BaseException):
        pass

    def label(out):
        return autolabel(teacher, images, out, AutolabelConfig(confidence=True), device="cpu", batch=2, workers=1)

    label(tmp_path / "whole")
    real = png_module.write_atomically
    killed = tmp_path / "killed"
    for stop in range(1, 8):
        writes = 0

        def write(path, stop=stop):
            nonlocal writes
            writes += 1
            if writes >= stop:
                path.parent.mkdir(parents=True, exist_ok=True)
                (path.parent / f".{path.name}.{'0' * 12}.tmp.png").write_bytes(b"half")
                raise Stopped
            return real(path)

        monkeypatch.setattr(png_module, "write_atomically", write)
        with pytest.raises(Stopped):
            label(killed)
        journal = next((killed / ".journal").glob("labels-*.jsonl"))
        with journal.open("ab") as file:
            file.write(b'{"image": "torn')
        monkeypatch.undo()
    label(killed)
    assert content(killed) == content(tmp_path / "whole")


def test_rethresholding_continues_where_it_was_stopped(teacher, images, tmp_path, content, monkeypatch):
    import polyscale.data.png as png_module

    for name in ("a", "b"):
        autolabel(teacher, images, tmp_path / name, AutolabelConfig(confidence=True), device="cpu")
    rethreshold(tmp_path / "a", 0.9)
    real, written = png_module.write_atomically, []

    def write(path):
        written.append(path)
        if len(written) == 5:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(png_module, "write_atomically", write)
    with pytest.raises(KeyboardInterrupt):
        rethreshold(tmp_path / "b", 0.9, workers=1)
    monkeypatch.undo()
    assert rethreshold(tmp_path / "b", 0.9).num_labelled < 9
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_torn_line_is_passed_over(tmp_path):
    with closing(Journal(tmp_path, 0)) as journal:
        journal.write(Failure(image="a", error="x"))
    with journal.path.open("ab") as file:
        file.write(b'{"image": "b", "err')
    assert [line.image for _, line in read_lines(tmp_path)] == ["a"]
    with closing(Journal(tmp_path, 0)) as journal:
        journal.write(Failure(image="c", error="ü"))
    assert list(latest_lines(tmp_path)) == ["a", "c"]
    (tmp_path / "masks" / "d").mkdir(parents=True)
    left = tmp_path / "masks" / "d" / ".e.png.0123456789ab.tmp.png"
    left.write_bytes(b"")
    clean(tmp_path)
    assert not left.exists()


def test_the_manifest_is_sorted_and_plain_json(teacher, images, tmp_path):
    autolabel(teacher, images, tmp_path / "out", device="cpu", workers=3)
    names = [line["image"] for line in read_manifest(tmp_path / "out")]
    assert names == sorted(names)
    assert len(names) == 9
    assert all(line["teacher"] for line in read_manifest(tmp_path / "out"))
