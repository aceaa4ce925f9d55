"""Damaged manifests, journals and descriptions: each is read, or refused in one printable line that names the file."""

import json
import math
import random

import pytest

from polyscale.autolabel import (
    AutolabelConfig,
    autolabel,
    read_confidence,
    read_description,
    read_manifest,
    rethreshold,
)
from polyscale.autolabel.label import seen_again
from polyscale.autolabel.pipeline import Timing
from polyscale.autolabel.records import Record, read_lines
from polyscale.autolabel.summary import Summary, Totals
from polyscale.data import ConfidenceMaps
from polyscale.errors import UserError

NASTY = (
    *(None, True, False, 0, -1, 1, 2, 3, 0.5, 1.5, -0.0, 1e308, math.nan, math.inf, -math.inf, 2**53, 2**64, 10**400),
    *("", " ", "a", "../../victim", "/etc/passwd", "a\nb", "a\0b", "\x1b[31m", "\ud800", "NaN", "x" * 5000, "ü"),
    *([], {}, [None], [[1]], {"a": 1}, {"../a": None}, {"\n": {"\0": []}}, [0.0, 1.0], [1, 0.5], ["a"], [0] * 300),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, teacher, space):
    """A small finished folder with everything that one can have, and the texts of its files."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("damage")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for kind, array in (
            ("images", rng.integers(0, 256, (8, 12, 3), np.uint8)),
            ("masks", np.zeros((8, 12), np.uint8)),
        ):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            array[2:4] = 17
            Image.fromarray(array).save(path)
    (root / "images" / "c.png").write_bytes(b"broken")
    space.to_yaml(root / "label_space.yaml")
    autolabel(
        teacher, root / "images", root / "out", AutolabelConfig(confidence=True), coarse=root, device="cpu", workers=1
    )
    return root / "out"


def places(value, here=()):
    """All paths to values within plain values."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*here, key))


def mutated(text, rng):
    """One line of JSON with a value replaced, removed or added, or with bytes changed, removed, repeated or cut off."""
    data = bytearray(text.encode())
    kind = rng.randrange(8)
    if kind < 4:
        value = json.loads(text)
        where = rng.choice([place for place in places(value) if place])
        inner = value
        for key in where[:-1]:
            inner = inner[key]
        if kind == 3 and isinstance(inner, dict):
            del inner[where[-1]]
        else:
            inner[where[-1]] = rng.choice(NASTY)
            if kind == 2 and isinstance(inner, dict):
                inner[rng.choice(("extra", "", "\n", "error", "../x"))] = rng.choice(NASTY)
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    start = rng.randrange(len(data))
    if kind == 4:
        data[start] = rng.randrange(256)
    elif kind == 5:
        del data[start : start + rng.randrange(1, 40)]
    elif kind == 6:
        data[start:start] = data[start : start + rng.randrange(1, 200)] * rng.randrange(1, 3)
    else:
        data[start:] = rng.choice((b"", b"\0" * 50, b"[" * 5000, b"9" * 5000, b"\xff\xfe", b'"' * 3))
    return bytes(data)


def attempt(run, name):
    """Whether it is read; what else may happen is one line."""
    try:
        run()
    except UserError as error:
        text = str(error)
        assert text.isprintable(), text
        assert len(text) < 500, text
        assert name in text, text
        return False
    return True


@pytest.mark.parametrize("file", ["manifest.jsonl", "failures.jsonl", ".journal/labels-00000.jsonl"])
def test_damaged_lines_are_read_or_refused(folder, space, file):
    rng = random.Random(file)
    path = folder / file
    source = folder / ("failures.jsonl" if file == "failures.jsonl" else "manifest.jsonl")
    before = source.read_bytes()
    lines = before.decode().splitlines()
    path.parent.mkdir(exist_ok=True)
    description = read_description(folder)

    def read():
        totals = Totals()
        for _, line in read_lines(folder):
            totals.add(line)
            if isinstance(line, Record):
                seen_again(space, line)
                line.holds(folder, description.digest, description.kinds)
                json.dumps(line.model_dump(exclude_unset=True))
        Summary(folder, 0, totals, {}, description, Timing()).tables()

    outcomes = []
    for _ in range(400):
        number = rng.randrange(len(lines))
        changed = [line.encode() for line in lines]
        changed[number] = mutated(lines[number], rng)
        path.write_bytes(b"\n".join(changed) + b"\n" * rng.randrange(2))
        outcomes.append(attempt(read, f"{file} line "))
        if file == "manifest.jsonl":
            assert attempt(lambda: list(read_manifest(folder)), "manifest.jsonl line ") == outcomes[-1]
    if source == path:
        path.write_bytes(before)
    else:
        path.unlink()
        path.parent.rmdir()
    assert 20 < sum(outcomes) < 1180  # some are read, most are refused


def test_a_damaged_description_is_read_or_refused(folder):
    rng = random.Random(1)
    path = folder / "autolabel.json"
    before = path.read_bytes()
    outcomes = []
    for _ in range(400):
        path.write_bytes(mutated(before.decode(), rng))
        outcomes.append(attempt(lambda: read_description(folder).digest, "autolabel.json"))
        attempt(lambda: ConfidenceMaps(folder), str(folder))
        if outcomes[-1] and rng.random() < 0.1:
            attempt(lambda: read_confidence(folder, "a"), "")
    path.write_bytes(before)
    assert 20 < sum(outcomes) < 1180


def test_a_damaged_folder_is_thresholded_again_or_refused(folder, tmp_path, content):
    import shutil

    rng = random.Random(2)
    for number in range(30):
        copy = tmp_path / "room" / str(number)
        shutil.copytree(folder, copy)
        path = copy / ("autolabel.json" if number % 2 else "manifest.jsonl")
        lines = path.read_text().splitlines() if number % 2 == 0 else [path.read_text()]
        changed = [line.encode() for line in lines]
        chosen = rng.randrange(len(lines))
        changed[chosen] = mutated(lines[chosen], rng)
        path.write_bytes(b"\n".join(changed) + b"\n")
        before = content(tmp_path)
        attempt(lambda copy=copy: rethreshold(copy, 0.9, workers=1), "")
        after = content(tmp_path)
        outside = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert all(f"room/{number}/" in name for name in outside)


def test_a_line_that_was_removed_is_labelled_again(teacher, images, tmp_path, content):
    autolabel(teacher, images, tmp_path / "out", device="cpu")
    before = content(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join((*lines[:2], b'{"image": "day/2"}\n', *lines[3:])))
    with pytest.raises(UserError, match=r"manifest\.jsonl line 3: file: Field required; remove the line"):
        autolabel(teacher, images, tmp_path / "out", device="cpu")
    manifest.write_bytes(b"".join((*lines[:2], *lines[3:])))
    assert autolabel(teacher, images, tmp_path / "out", device="cpu").num_labelled == 1
    assert content(tmp_path / "out") == before
