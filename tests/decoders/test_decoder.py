import pytest

from polyscale.config import import_path, validate
from polyscale.decoders import Decoder, DecoderConfig
from polyscale.decoders.decoder import DECODERS
from polyscale.errors import UserError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"ocr_channels": 64},
            "^ocr_channels has no effect with kind light; light reads light_channels",
        ),
        ({"kind": "ocr", "light_channels": 64}, "^light_channels has no effect with kind ocr"),
        ({"kind": "ocr", "aspp_channels": 64}, "^aspp_channels has no effect with kind ocr"),
        ({"kind": "deeplabv3", "fine_stride": 2}, "^fine_stride has no effect with kind deeplabv3"),
        ({"kind": "deeplabv3", "pyramid": "dpc", "aspp_rates": [6]}, "^aspp_rates has no effect with kind deeplabv3"),
        ({"kind": "unet", "options": {"width": 3}}, "^options has no effect with kind unet"),
        (
            {"kind": "my.module:Head", "dropout": 0.1},
            "^dropout has no effect with kind my.module:Head",
        ),
    ],
)
def test_a_key_that_the_kind_does_not_read_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        validate(DecoderConfig, values)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "ocr", "ocr_pyramid": True, "aspp_channels": 64, "fine_stride": 8},
        {"kind": "deeplabv3plus", "fine_stride": 2, "fine_channels": 8, "aspp_separable": True, "dropout": 0.1},
        {"kind": "light", "ocr_channels": 512, "aspp_rates": [6, 12, 18]},
    ],
)
def test_keys_that_are_read_or_have_their_default_are_taken(values):
    config = validate(DecoderConfig, values)
    assert validate(DecoderConfig, config.model_dump(mode="json")) == config  # as a run's config.yaml has them


@pytest.mark.parametrize("kind", DECODERS)
def test_every_kind_names_a_decoder_and_keys_that_there_are(kind):
    assert issubclass(import_path(DECODERS[kind].path), Decoder)
    assert set(DECODERS[kind].keys) <= set(DecoderConfig.model_fields)
