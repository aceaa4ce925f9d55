import base64
import io
import re

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from polyscale.cli.app import app
from polyscale.data import open_data
from polyscale.data.streets import write_streets
from polyscale.data.survey import GRID, survey
from polyscale.report.data_page import crop_around


def test_a_survey_counts_what_is_where(tmp_path):
    write_streets(tmp_path, {"train": 3}, (64, 128))
    data = open_data(tmp_path, "train")
    found = survey(data)
    labels = [data.read(k).labels for k in range(3)]
    for k, name in enumerate(data.label_space.names):
        present = [(image == k).mean() for image in labels]
        assert found.num_images[k] == sum(share > 0 for share in present)
        np.testing.assert_allclose(found.shares[:, k], present)
        assert found.together[k, k] == found.num_images[k], name
    assert found.where.shape == (9, *GRID)
    np.testing.assert_allclose(found.where.sum(0), 1)
    sky, road = (data.label_space.names.index(name) for name in ("sky", "road"))
    assert found.where[sky, :4].sum() > found.where[sky, -4:].sum()
    assert found.where[road, -4:].sum() > found.where[road, :4].sum()
    assert found.examples(road, 1) == [int(np.argmax([(image == road).mean() for image in labels]))]


def test_a_page_of_a_data_set(tmp_path):
    write_streets(tmp_path / "data", {"train": 2, "val": 1}, (64, 128))
    result = CliRunner().invoke(app, ["data", "report", str(tmp_path / "data"), "--out", str(tmp_path / "data.html")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "data.html").read_text()
    assert {"train", "val"} <= set(re.findall(r'<h2 id="split-\d">(\w+)</h2>', page))
    assert page.count('alt="Where ') >= 10
    assert "128 x 64 (2)" in page
    assert "<h1>data: what is in it</h1>" in page
    where = base64.b64decode(re.search(r'class="where" src="data:image/png;base64,([^"]+)"', page)[1])
    assert Image.open(io.BytesIO(where)).size == (96, 48)  # of the shape of the images
    assert "<script" not in page


def test_an_example_is_cut_around_its_object():
    mask = np.zeros((100, 200), bool)
    mask[40:60, 150:170] = True
    rows, columns = crop_around(mask)
    assert (rows.start, rows.stop) == (33, 67)
    assert (columns.start, columns.stop) == (135, 185)
    assert crop_around(np.zeros((10, 20), bool)) == (slice(0, 10), slice(0, 20))
