"""Public label spaces: known facts of each."""

import numpy as np
import pytest

from polyscale.data.known_spaces import known_space, known_spaces
from polyscale.errors import UserError


def test_cityscapes_train_ids() -> None:
    """The train ids of the 34 label ids, as the data set's scripts list them."""
    space = known_space("cityscapes")
    expected = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    expected += [255, 255, 16, 17, 18]
    assert space.encode(np.arange(34, dtype=np.uint8)[None]).tolist() == [expected]
    assert space.num_classes == 19
    assert space.decode(np.array([[0, 18, 255]])).tolist() == [[7, 33, 0]]
    assert {item.name: item.color for item in space.classes}["traffic sign"] == (220, 220, 0)


def test_mapillary_vistas() -> None:
    space = known_space("mapillary-vistas-1.2")
    assert space.num_classes == 65
    assert space.encode(np.array([[0, 13, 64, 65]], np.uint8)).tolist() == [[0, 13, 64, 255]]
    assert [space.names[number] for number in (0, 13, 27, 55, 64)] == ["Bird", "Road", "Sky", "Car", "Ego Vehicle"]
    assert len({item.color for item in space.classes}) == 65


def test_an_unknown_name_lists_the_known() -> None:
    assert {"cityscapes", "mapillary-vistas-1.2"} <= set(known_spaces())
    with pytest.raises(UserError, match="choose from ade20k, .*cityscapes, .*mapillary-vistas-1.2"):
        known_space("../cityscapes")
