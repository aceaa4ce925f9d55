"""From files to a page: what is read, what is said, how large it is."""

import base64
import dataclasses
import io
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from polyscale.cli.app import app
from polyscale.errors import UserError
from polyscale.report import embed, find_stored, read_evaluation, summary_picture, write_report
from polyscale.report.runs import config_differences, curves
from polyscale.report.sections import classes
from polyscale.report.stored import Run, Stored
from polyscale.report.verdict import verdict


def scores_file(miou, average=None, pixels=(60, 40), confusion=((50, 10), (20, 20)), method="hierarchical"):
    def row(value):
        per_class = {name: {"pixels": n, "iou": value} for name, n in zip(("road", "pole"), pixels, strict=True)}
        return {"mean_iou": value, "num_pixels": sum(pixels), "per_class": per_class, "confusion": confusion}

    rows = {"fused": row(miou)} | ({"average of probabilities": row(average)} if average is not None else {})
    return {"metadata": {"method": method, "scales": [0.5, 1.0]}, "rows": rows, "attention": None}


@pytest.fixture
def evaluation(tmp_path):
    """Writes scores.json into a folder of a name."""

    def write(name, *args, **kwargs):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "scores.json").write_text(json.dumps(scores_file(*args, **kwargs)))
        return folder

    return write


def text_of(claims):
    return "; ".join(claim.text for claim in claims)


def test_the_verdict_names_gain_control_and_missing_classes(evaluation):
    ours = evaluation("ours", 0.53, 0.508, confusion=((60, 0), (40, 0)))
    control = evaluation("single", 0.50, 0.536, method="single")
    first, other = find_stored([f"attention={ours}", f"equal time={control}"])
    claims, table = verdict([first], {"equal time": [other]})
    assert text_of(claims) == ("+2.2 over averaging; \N{MINUS SIGN}0.6 against equal time; pole never predicted")
    assert [claim.kind for claim in claims] == ["good", "bad", "bad"]
    assert [row.how for row in table] == ["one run", "one run"]
    assert table[1].name == "equal time (average of probabilities)"


def test_a_network_that_averages_is_compared_with_scale_1(fakes, tmp_path):
    from polyscale.evaluation import Recording, evaluate

    data = fakes.HostileToys(fakes.SIZES[:2])
    recording = Recording(tmp_path, gallery=None, logits=True)
    evaluate(fakes.network("average"), data, (0.5, 1, 2), compare=True, recording=recording).write(tmp_path)
    stored = read_evaluation(tmp_path)
    assert stored.rival == "scale 1"
    own, alone = (stored.scores["rows"][row]["mean_iou"] for row in ("fused", "scale 1"))
    claims, table = verdict([stored], {})
    assert f"{abs(100 * (own - alone)):.1f}" in claims[0].text
    assert "1x alone" in claims[0].text
    assert [row.name for row in table] == ["0.5x alone", "1x alone", "2x alone", "Average of logits"]
    rows = stored.about["rows"]
    found = {row: np.diagonal(stored.scores["rows"][row]["confusion"]).sum() for row in ("fused", "scale 1")}
    assert rows[0] == "fused"
    gained = int(stored.counts["rescued"].sum() - stored.counts["spoiled"].sum())
    assert gained == found["fused"] - found["scale 1"] != 0
    assert all("average" not in stored.pictures(entry) for entry in stored.about["images"])
    write_report(tmp_path / "report.html", [stored])
    page = (tmp_path / "report.html").read_text()
    assert "gain over 1x alone" in page
    assert "averaging" not in page
    assert re.findall(r'<fieldset data-scale="(.*?)"', page) == ["0.5", "1", "2"]


def test_several_seeds_that_disagree_are_level(evaluation):
    group = find_stored([f"a={evaluation(f's{k}', own, 0.5)}" for k, own in enumerate((0.52, 0.49, 0.51))])
    claims, (difference,) = verdict(group, {})
    assert text_of(claims) == "level with averaging (+0.7)"
    assert (difference.found.low, difference.found.high) == (pytest.approx(-0.01), pytest.approx(0.02))
    assert difference.how == "lowest and highest of 3 runs"


def test_a_bootstrap_range_where_there_are_counts(evaluated):
    stored = read_evaluation(evaluated)
    _, table = verdict([stored], {})
    assert all(row.found.low < row.found.value < row.found.high for row in table)
    assert {row.how for row in table} == {"95 % of resampled image sets"}


def test_a_tie_or_a_zero_is_not_best(evaluation):
    folder = evaluation("tie", 0.5, 0.5)
    items = classes(read_evaluation(folder))["items"]
    assert [item["words"] for item in items] == ["a tie", "a tie"]
    items = classes(read_evaluation(evaluation("zero", 0.0, 0.0)))["items"]
    assert [item["words"] for item in items] == ["", ""]
    items = classes(read_evaluation(evaluation("behind", 0.4, 0.5)))["items"]
    assert items[0]["words"] == "best: average"
    nowhere = read_evaluation(evaluation("none", 0.4, 0.5, (60, 0), ((60, 0), (0, 0))))
    assert classes(nowhere)["items"][1]["words"] == "not in these images"


def test_an_evaluation_without_counts_makes_a_page_too(evaluation, tmp_path):
    out = tmp_path / "page.html"
    write_report(out, [read_evaluation(evaluation("plain", 0.4, 0.5))])
    page = out.read_text()
    assert "against averaging" in page
    assert 'id="stage"' not in page
    assert "<script>" not in page


def test_a_run_that_was_not_evaluated_shows_its_curves(tmp_path):
    (tmp_path / "log.jsonl").write_text(
        '{"step": 1, "loss": {"total": 2.0, "main": 1.0}, "lr": 0.1}\n'
        '{"step": 2, "loss": {"total": 1.0, "main": 0.5}, "lr": 0.1}\n'
        '{"step": 2, "validation": {"epoch": 1, "miou": 0.25}}\n{"step": 3, "loss'
    )
    (stored,) = find_stored([str(tmp_path)])
    titles = [curve["title"] for curve in curves([stored])]
    assert titles == ["Validation mIoU %", "Loss: total", "Loss: main", "Learning rate"]
    write_report(tmp_path / "page.html", [stored])
    page = (tmp_path / "page.html").read_text()
    assert "not evaluated yet" in page
    assert "Validation mIoU %" in page


def test_differences_of_configurations(tmp_path):
    def run(name, **config):
        return Stored(name, tmp_path / name, None, run=Run(tmp_path / name, config, {}, []))

    found = config_differences([run("a", lr=0.1, seed=0, x=1), run("b", lr=0.2, seed=1, x=1), run("c", x=1)])
    assert found["names"] == ["a", "b", "c"]
    assert found["rows"] == [{"key": "lr", "values": ["0.1", "0.2", "\N{EN DASH}"]}]
    assert config_differences([run("a", lr=0.1)]) is None


def test_what_cannot_be_reported_is_said_in_one_line(tmp_path, evaluated):
    with pytest.raises(UserError, match="no such run or evaluation"):
        find_stored([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"neither scores\.json nor log\.jsonl"):
        find_stored([str(tmp_path)])
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(UserError, match="not an evaluation"):
        find_stored([str(tmp_path)])
    (tmp_path / "scores.json").write_text(json.dumps(scores_file(0.5)))
    (tmp_path / "recording.json").write_text('{"format": "polyscale-recording 2", "complete": false}')
    with pytest.raises(UserError, match="did not end"):
        find_stored([str(tmp_path)])
    with pytest.raises(UserError, match="it is a folder"):
        write_report(tmp_path, [read_evaluation(evaluated)])


def test_the_command(report_page, evaluated, tmp_path):
    result = CliRunner().invoke(app, ["report", f"toys={evaluated}", "--out", str(tmp_path / "x.html")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "x.html").stat().st_size > 10_000


def parts(page):
    return {
        name: json.loads(text)
        for name, text in re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', page, re.DOTALL)
    }


def test_embedded_maps_are_the_stored_ones(report_page, evaluated):
    found = parts(report_page.read_text())
    entries = read_evaluation(evaluated).about["images"]
    assert set(found) == {"page-data", *(f"image-{k}" for k in range(len(entries)))}
    for k, entry in enumerate(entries):
        place = evaluated / entry["gallery"]["folder"]
        for name, text in found[f"image-{k}"]["files"].items():
            picture = Image.open(io.BytesIO(base64.b64decode(text)))
            if name == "photo":
                continue
            shown = np.asarray(picture.convert("RGB"))[..., 0].astype(int)
            stored = np.asarray(Image.open(place / f"{name}.png")).astype(int)
            assert np.abs(shown - stored).max() <= (1 if name.startswith(("weight", "confidence")) else 0), name


def test_without_script_there_is_a_strip_for_each_image(report_page):
    page = report_page.read_text()
    (inside,) = re.findall(r"<noscript>(.*?)</noscript>", page, re.DOTALL)
    assert inside.count("<img src=") == 4 * 5
    assert page.count("<table") >= 6


def test_names_cannot_leave_their_place(report_page):
    page = report_page.read_text()
    assert "<img src=x" not in page
    assert page.count("<script") == 1 + 5 + 1
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "script-src 'sha256-" in policy


def test_a_large_photograph_is_made_to_fit(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (512, 1024, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg", quality=95)
    assert (tmp_path / "photo.jpg").stat().st_size > 500_000
    assert len(embed._photo(tmp_path / "photo.jpg", 60_000)) < 80_000


def test_the_default_order_is_worst_gains_losses():
    items = [{"score": float(k), "gain": float((k * 7) % 20 - 10)} for k in range(20)]
    order = embed.default_order(items)
    assert order[:6] == [0, 1, 2, 3, 4, 5]
    gains = sorted(range(20), key=lambda k: -items[k]["gain"])
    assert set(gains[:3]) | set(gains[-3:]) <= set(order[:12])
    assert sorted(order) == list(range(20))


def test_a_picture_of_the_idea(evaluated):
    stored = read_evaluation(evaluated)
    picture = summary_picture(stored)
    assert picture.width > 4 * 150
    empty = {**stored.about, "images": [{**entry, "gallery": None} for entry in stored.about["images"]]}
    with pytest.raises(UserError, match="holds no image in full"):
        summary_picture(dataclasses.replace(stored, about=empty))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.json", b"[" * 100_000, "cannot read"),
        ("scores.json", b'{"rows": ["fused"]}', "is not an evaluation"),
        ("scores.json", b'{"rows": {"fused": {}}, "metadata": 3}', "is not an evaluation"),
        ("recording.json", b"[]", "is of another version"),
        ("counts.npz", b"PK\x03\x04 damaged", "cannot read"),
        ("counts.npz", b"", "cannot read"),
        ("counts.npz", None, "cannot read"),  # an archive whose member is damaged
    ],
)
def test_a_damaged_evaluation_is_one_line(evaluated, tmp_path, name, content, message):
    for file in ("scores.json", "recording.json", "counts.npz"):
        (tmp_path / file).write_bytes((evaluated / file).read_bytes())
    if content is None:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("sizes.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((  \n")
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_evaluation(tmp_path)


def copied(evaluated, folder, change):
    """A copy of an evaluation whose recording says something else."""
    shutil.copytree(evaluated, folder)
    about = json.loads((folder / "recording.json").read_text())
    change(about)
    (folder / "recording.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "link/secret", "\0"])
@pytest.mark.parametrize("key", ["thumbnail", "gallery"])
def test_a_page_shows_no_file_outside_the_evaluation(evaluated, tmp_path, name, key):
    """Somebody else's evaluation must not put files of the reader into a page that is passed on."""

    def change(about):
        entry = about["images"][0]
        if key == "gallery":
            entry["gallery"]["folder"] = name
        else:
            entry["thumbnail"] = name

    folder = copied(evaluated, tmp_path / "copy", change)
    for place in (tmp_path, tmp_path / "elsewhere"):
        place.mkdir(exist_ok=True)
        (place / "secret").write_text("SECRET")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="the file name|symbolic link"):
        write_report(tmp_path / "page.html", find_stored([str(folder)]))
    assert not (tmp_path / "page.html").exists()


def test_a_photograph_that_is_a_link_is_not_shown(evaluated, tmp_path):
    folder = copied(evaluated, tmp_path / "copy", lambda _: None)
    photo = next(folder.glob("gallery/*/photo.jpg"))
    photo.unlink()
    photo.symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="symbolic link"):
        write_report(tmp_path / "page.html", find_stored([str(folder)]))


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("classes"),
        lambda about: about.update(images=[3]),
        lambda about: about.update(scales="x"),
        lambda about: about["images"][0].update(gallery=[]),
        lambda about: about["images"][0]["gallery"].update(folder="nowhere"),
    ],
)
def test_values_that_no_evaluation_writes_are_one_line(evaluated, tmp_path, change):
    folder = copied(evaluated, tmp_path / "copy", change)
    with pytest.raises(UserError, match="are damaged"):
        write_report(tmp_path / "page.html", find_stored([str(folder)]))


@pytest.mark.parametrize("scores", [{"rows": {"fused": 3}}, {"rows": {"fused": {}}, "metadata": {"checkpoint": [1]}}])
def test_scores_that_no_evaluation_writes_are_one_line(tmp_path, scores):
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    with pytest.raises(UserError, match="are damaged"):
        write_report(tmp_path / "page.html", find_stored([str(tmp_path)]))
