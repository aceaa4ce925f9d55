"""What a folder's own files name is never outside the folder, whatever they say."""

import json

import pytest

from polyscale.autolabel import AutolabelConfig, autolabel, read_candidates, read_confidence, read_manifest, rethreshold
from polyscale.errors import UserError


@pytest.fixture
def out(teacher, images, tmp_path):
    """A finished folder with confidence maps, and beside its parent files that must stay."""
    out = tmp_path / "deep" / "out"
    autolabel(teacher, images, out, AutolabelConfig(confidence=True), device="cpu")
    for victim in (tmp_path / "victim.png", tmp_path / "deep" / "victim.png", out / "victim.png"):
        victim.write_bytes(b"mine")
    return out


def attacks(tmp_path):
    yield from ("../../victim", "../../../victim", "day/../../../victim", f"{tmp_path}/victim", "C:\\victim", "a\0b")
    yield from ("a\nb", "\ud800", "", 7, None, True, [["victim"]], {"a": 1}, "x" * 5000)


def test_a_line_that_names_a_file_elsewhere_is_refused_with_its_number(teacher, images, tmp_path, out, content):
    manifest = out / "manifest.jsonl"
    good = manifest.read_text()
    lines = good.splitlines()
    for name in attacks(tmp_path):
        for line in ({**json.loads(lines[3]), "image": name}, {"image": name, "error": "x"}):
            manifest.write_text("\n".join((*lines[:3], json.dumps(line), *lines[4:])) + "\n")
            before = content(tmp_path)
            for run in (
                lambda: rethreshold(out, 0.9),
                lambda: autolabel(teacher, images, out, AutolabelConfig(confidence=True), device="cpu", replace=True),
                lambda: list(read_manifest(out)),
            ):
                with pytest.raises(UserError, match=r"manifest\.jsonl line 4: (the file name|Invalid JSON)") as caught:
                    run()
                assert str(caught.value).isprintable()
                assert len(str(caught.value)) < 400
            assert content(tmp_path) == before
    manifest.write_text(good)
    assert rethreshold(out, 0.9).num_done == 9


def test_a_journal_that_names_a_file_elsewhere_is_refused(teacher, images, tmp_path, out, content):
    journal = out / ".journal" / "labels-00000.jsonl"
    journal.parent.mkdir()
    for name in attacks(tmp_path):
        journal.write_text(json.dumps({"image": name, "error": "x"}) + "\n")
        before = content(tmp_path)
        for run in (
            lambda: rethreshold(out, 0.9),
            lambda: autolabel(teacher, images, out, AutolabelConfig(confidence=True), device="cpu", replace=True),
        ):
            with pytest.raises(UserError, match=r"labels-00000\.jsonl line 1: (the file name|Invalid JSON)"):
                run()
        assert content(tmp_path) == before


def test_a_name_that_a_caller_gives_is_refused_likewise(out):
    for read in (read_confidence, read_candidates):
        with pytest.raises(UserError, match="the file name"):
            read(out, "../../victim")


@pytest.mark.parametrize("kind", ["masks", "candidates", "confidence", "masks/day", ".journal"])
def test_a_link_in_the_folder_is_not_written_through(teacher, images, tmp_path, out, content, kind):
    elsewhere = tmp_path / "elsewhere"
    if (out / kind).exists():
        (out / kind).rename(elsewhere)
    else:
        elsewhere.mkdir()
    (out / kind).symlink_to(elsewhere)
    (elsewhere / "labels-00000.jsonl").write_text("")
    (elsewhere / "lock").write_text("mine")
    (elsewhere / f".a.png.{'0' * 12}.tmp.png").write_text("mine")
    (images / "day" / "1.png").write_bytes(b"broken")
    before = content(elsewhere)
    with pytest.raises(UserError, match="is a symbolic link"):
        autolabel(teacher, images, out, AutolabelConfig(confidence=True), device="cpu")
    with pytest.raises(UserError, match="is a symbolic link|has not ended"):
        rethreshold(out, 0.9)
    if "/" not in kind:
        with pytest.raises(UserError, match="is a symbolic link"):
            autolabel(teacher, images, out, device="cpu", replace=True)
    else:  # the folder around the link is removed, and the link with it
        assert autolabel(teacher, images, out, device="cpu", replace=True).num_done == 8
    assert content(elsewhere) == before


@pytest.mark.parametrize("file", [".journal/lock", ".journal/labels-00000.jsonl"])
def test_a_lock_or_journal_that_is_a_link_is_not_opened(teacher, images, tmp_path, out, file):
    victim = tmp_path / "victim.png"
    (out / ".journal").mkdir()
    (out / file).symlink_to(victim)
    (images / "day" / "1.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="is a symbolic link"):
        autolabel(teacher, images, out, AutolabelConfig(confidence=True), device="cpu")
    with pytest.raises(UserError, match="is a symbolic link|has not ended"):
        rethreshold(out, 0.9)
    assert victim.read_bytes() == b"mine"


def test_the_folder_itself_may_be_a_link(teacher, images, tmp_path, content):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    autolabel(teacher, images, tmp_path / "out", device="cpu")
    autolabel(teacher, images, tmp_path / "plain", device="cpu")
    assert content(tmp_path / "disk") == content(tmp_path / "plain")
