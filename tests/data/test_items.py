import pickle

import pytest

from polyscale.data.items import DataError
from polyscale.errors import UserError


def test_a_data_error_is_a_user_error_that_survives_the_way_back_from_a_worker():
    error = pickle.loads(pickle.dumps(DataError("mask.png is damaged", "ids")))
    assert isinstance(error, UserError)
    assert (str(error), error.kind) == ("mask.png is damaged", "ids")


def test_a_data_error_can_be_rebuilt_from_its_message_alone():
    with pytest.raises(DataError, match="seen in a worker"):
        raise type(DataError("x", "size"))("seen in a worker")
