import json
import shutil

import numpy as np
import pytest
from PIL import Image

from polyscale.cli import main
from polyscale.crops import class_centroids
from polyscale.data import check_splits, list_splits, open_data
from polyscale.data.known_spaces import known_space
from polyscale.data.mapillary import MapillaryConfig
from polyscale.data.streets.mapillary import write_like_mapillary
from polyscale.errors import UserError
from polyscale.labels import IGNORE

SIZES = {"train": 4, "val": 2, "test": 1}


@pytest.fixture(scope="module", params=["1.2", "2.0"])
def download(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mapillary") / "data"
    write_like_mapillary(folder, SIZES, (96, 128), seed=1, version=request.param)
    return folder, request.param


@pytest.fixture(scope="module")
def newest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mapillary") / "newest"
    write_like_mapillary(folder, SIZES, (96, 128), seed=1, version="2.0")
    return folder


def test_the_layout_is_recognised_with_the_newest_version(download):
    root, version = download
    assert list_splits(root) == ("train", "val", "test")
    for split, count in SIZES.items():
        assert len(open_data(root, split)) == count
    data = open_data(root, "train")
    assert data.label_space == known_space(f"mapillary-vistas-{version}")
    assert data.label_space.num_classes == {"1.2": 65, "2.0": 123}[version]
    assert len({data.read(k).image.shape for k in range(4)}) == 4
    names = {data.label_space.names[k] for k in np.unique(data.read(0).labels)}
    assert {"Road", "Sky", "Building"} <= names
    assert open_data(root, "test").read(0).labels is None
    assert open_data(root, "training").items == open_data(root, "train").items
    reports = check_splits({split: open_data(root, split, lenient=True) for split in ("train", "val")})
    assert all(report.usable for report in reports.values())


def test_the_new_download_holds_the_old_version_too(newest):
    old, new = (open_data(MapillaryConfig(root=newest, split="val", version=v)) for v in ("1.2", "2.0"))
    for a, b in ((old.read(k).labels, new.read(k).labels) for k in range(2)):
        names = [old.label_space.names[k] for k in np.unique(a)]
        assert names == [new.label_space.names[k] for k in np.unique(b)]
        assert [(a == old.label_space.names.index(n)).sum() for n in names] == [
            (b == new.label_space.names.index(n)).sum() for n in names
        ]


def test_the_config_file_says_which_classes_count(newest, tmp_path):
    root = shutil.copytree(newest, tmp_path / "copy")
    config = json.loads((root / "config_v2.0.json").read_text())
    assert len(config["labels"]) == 124
    for label in config["labels"]:
        label["evaluate"] = label["readable"] in ("Road", "Sky")
    (root / "config_v2.0.json").write_text(json.dumps(config))
    data = open_data(root, "train")
    assert data.label_space.names == ("Road", "Sky")
    assert set(np.unique(data.read(0).labels)) <= {0, 1, IGNORE}
    for content in ("{", "[" * 100_000, '{"labels": [{"readable": "Road"}]}', '{"labels": 3}'):
        (root / "config_v2.0.json").write_text(content)
        with pytest.raises(UserError, match=r"config_v2\.0\.json is no config file of Mapillary Vistas"):
            open_data(root, "train")


def test_labels_of_the_other_version_are_told(newest, tmp_path):
    root = shutil.copytree(newest, tmp_path / "copy")
    shutil.rmtree(root / "training/v2.0/labels")
    shutil.copytree(root / "training/v1.2/labels", root / "training/v2.0/labels")
    with pytest.raises(UserError, match=r"has another palette than version 2\.0 of Mapillary Vistas"):
        open_data(root, "train")
    assert main(["data", "check", f"{root}:train"]) == 2
    shutil.rmtree(root / "training/v2.0/labels")
    with pytest.raises(UserError, match=r"has no labels of version 2\.0 \(v2\.0/labels\); unpack them"):
        open_data(MapillaryConfig(root=root, split="train", version="2.0"))
    with pytest.raises(UserError, match="no split 'extra'.*; its splits are train, val, test"):
        open_data(root, "extra")


def test_images_are_resized_to_a_long_edge_when_they_are_read(download):
    root, _ = download
    whole = open_data(MapillaryConfig(root=root, split="train"))
    small = open_data(MapillaryConfig(root=root, split="train", long_edge=64))
    for index in range(4):
        sample, full = small.read(index), whole.read(index)
        assert max(sample.image.shape) == 64
        assert sample.labels.shape == sample.image.shape[:2]
        np.testing.assert_array_equal(sample.labels, small.read_labels(index))
        height, width = full.labels.shape
        assert abs(sample.labels.shape[0] / sample.labels.shape[1] - height / width) < 0.02
        rows = (np.arange(sample.labels.shape[0]) + 0.5) * height / sample.labels.shape[0]
        columns = (np.arange(sample.labels.shape[1]) + 0.5) * width / sample.labels.shape[1]
        np.testing.assert_array_equal(sample.labels, full.labels[rows.astype(int)][:, columns.astype(int)])
        wanted = Image.fromarray(full.image).resize(sample.image.shape[1::-1], Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(sample.image, np.asarray(wanted))


def test_class_positions_of_another_size_are_cached_apart(download, tmp_path):
    root, _ = download
    for edge in (64, 96, None):
        class_centroids(open_data(MapillaryConfig(root=root, split="val", long_edge=edge)), cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
