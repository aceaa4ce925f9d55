import numpy as np
import pytest
from PIL import Image

from polyscale.config import read_yaml
from polyscale.errors import UserError
from polyscale.inference.files import find_images, predict_files
from polyscale.labels import LabelSpace


@pytest.fixture
def put(tmp_path, photo):
    """Save an image under a name below the test's folder."""

    def save(*names):
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo(9, 12, seed=number)).save(path)

    return save


def names(found):
    return [item.name for item in found]


def test_a_folder_is_searched_to_any_depth_in_order(put, tmp_path):
    put("in/b.png", "in/a.JPG", "in/sub/deep/c.webp", "in/.hidden.png", "in/.cache/d.png")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert names(find_images([tmp_path / "in"])) == ["a", "b", "sub/deep/c"]


def test_files_folders_and_patterns_together_each_image_once(put, tmp_path, monkeypatch):
    put("in/b.png", "in/sub/c.png", "in/sub/d.jpg", "other/e.png")
    monkeypatch.chdir(tmp_path)
    given = ["in/sub/d.jpg", "in", "other/*", "in/b.png"]
    assert names(find_images(given)) == ["d", "b", "sub/c", "e"]
    assert names(find_images(["in/**/*.png"])) == ["b", "sub/c"]
    assert names(find_images([str(tmp_path / "i?" / "sub")])) == ["in/sub/c", "in/sub/d"]


def test_a_file_with_wildcards_in_its_name_is_a_file(put, tmp_path):
    put("in/shot[1].png", "in/shot1.png")
    assert names(find_images([tmp_path / "in" / "shot[1].png"])) == ["shot[1]"]


def test_names_that_would_collide_keep_their_suffix_then_their_folder(put, tmp_path):
    put("x/a.jpg", "x/a.png", "x/b.png", "y/b.png", "y/c.png")
    found = find_images([tmp_path / "x", tmp_path / "y"])
    assert names(found) == ["a.jpg", "a.png", "x/b.png", "y/b.png", "c"]


def test_names_of_folders_that_have_one_name_are_numbered(put, tmp_path):
    put("1/in/a.png", "2/in/a.png", "3/in/a.png")
    found = names(find_images([tmp_path / k / "in" for k in "123"]))
    assert len(set(found)) == 3
    assert all(name.startswith("in/a.png") for name in found)


def test_names_that_differ_only_in_case_collide(put, tmp_path):
    put("x/A.png", "y/a.png")
    found = names(find_images([tmp_path / "x", tmp_path / "y"]))
    assert len({name.lower() for name in found}) == 2


def test_linked_folders_are_followed_and_loops_end(put, tmp_path):
    put("in/a.png", "elsewhere/b.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    assert names(find_images([tmp_path / "in"])) == ["a", "link/b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no path given"),
        (["nothing"], "no such file or folder: nothing"),
        (["empty"], "no image found in empty"),
        (["empty/*.png"], r"no image matches 'empty/\*.png'"),
    ],
)
def test_no_input_is_an_error(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_images(given)


def test_a_run_writes_all_results_and_says_how(predictor, put, tmp_path):
    put("in/a.png", "in/sub/b.jpg")
    steps = []
    summary = predict_files(
        predictor, [tmp_path / "in"], tmp_path / "out", (0.5, 1), progress=lambda *step: steps.append(step)
    )
    assert names(summary.written) == ["a", "sub/b"]
    assert summary.failures == ()
    assert steps == [(1, 2), (2, 2)]
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    of_images = {
        f"{folder}/{name}{end}"
        for name in ("a", "sub/b")
        for folder, end in (
            ("labels", ".png"),
            ("overlay", ".jpg"),
            ("confidence", ".png"),
            ("attention", "_0.5x.png"),
            ("attention", "_1x.png"),
        )
    }
    assert files == of_images | {"label_space.yaml", "predictions.yaml"}
    space = LabelSpace.from_yaml(tmp_path / "out" / "label_space.yaml")
    mask = np.array(Image.open(tmp_path / "out" / "labels" / "sub" / "b.png"))
    expected = predictor.predict(tmp_path / "in" / "sub" / "b.jpg", (0.5, 1)).labels
    np.testing.assert_array_equal(space.encode(mask), expected)
    assert read_yaml(tmp_path / "out" / "predictions.yaml")["scales"] == [0.5, 1.0]


def test_an_unreadable_image_is_reported_and_the_rest_goes_on(predictor, put, tmp_path):
    put("in/a.png", "in/c.png")
    (tmp_path / "in" / "b.png").write_bytes(b"")
    (tmp_path / "in" / "d.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:200])
    lines = []
    summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "out", (1,), report=lines.append)
    assert names(summary.written) == ["a", "c"]
    assert [failure.path.name for failure in summary.failures] == ["b.png", "d.png"]
    assert len(lines) == 2
    assert all("\n" not in line and str(tmp_path / "in") in line for line in lines)
    assert not (tmp_path / "out" / "labels" / "b.png").exists()


def test_a_second_run_replaces_its_results_and_does_not_eat_them(predictor, put, tmp_path):
    put("in/a.png")
    for _ in range(2):  # results inside the folder of the images
        summary = predict_files(predictor, [tmp_path / "in"], tmp_path / "in", (1,))
        assert names(summary.written) == ["a"]


def test_files_that_no_prediction_wrote_are_not_replaced(predictor, put, tmp_path):
    put("set/images/a.png", "set/labels/a.png")
    before = (tmp_path / "set" / "labels" / "a.png").read_bytes()
    with pytest.raises(UserError, match="holds files that no prediction wrote"):
        predict_files(predictor, [tmp_path / "set" / "images"], tmp_path / "set")
    assert (tmp_path / "set" / "labels" / "a.png").read_bytes() == before
    assert not (tmp_path / "set" / "predictions.yaml").exists()


def test_ids_of_a_folder_keep_their_meaning(predictor, put, tmp_path):
    put("in/a.png")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "label_space.yaml").write_text("classes: []\n")
    with pytest.raises(UserError, match="was written by no prediction"):
        predict_files(predictor, [tmp_path / "in"], mine)
    assert (mine / "label_space.yaml").read_text() == "classes: []\n"
    predict_files(predictor, [tmp_path / "in"], tmp_path / "out")
    facts = (tmp_path / "out" / "predictions.yaml").read_text()
    assert predictor.label_space.digest in facts
    (tmp_path / "out" / "predictions.yaml").write_text(facts.replace(predictor.label_space.digest, "0123"))
    with pytest.raises(UserError, match="holds predictions of other classes"):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out")


@pytest.mark.parametrize(("scales", "outputs"), [((0.5, 2), ("labels",)), ((1,), ("masks",))])
def test_wrong_options_are_told_before_anything_is_written(predictor, put, tmp_path, scales, outputs):
    put("in/a.png")
    with pytest.raises(UserError):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out", scales, outputs=outputs)
    assert not (tmp_path / "out").exists()


def test_a_result_that_cannot_be_written_ends_the_run(predictor, put, tmp_path):
    put("in/a.png", "in/b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        predict_files(predictor, [tmp_path / "in"], tmp_path / "out", (1,))
