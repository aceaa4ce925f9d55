"""An evaluation with all that a report needs."""

import importlib.util
from pathlib import Path

import pytest

HOSTILE = '</script><img src=x onerror="window.hacked=1">'
"""As the name of a class and of an image."""

SIZES = [(120, 200), (96, 160), (110, 150), (100, 180), (120, 160)]


def load_fakes():
    path = Path(__file__).parents[1] / "evaluation" / "fakes.py"
    spec = importlib.util.spec_from_file_location("evaluation_fakes_for_reports", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fakes():
    """Toy images under hostile names, and a network that fuses on its own grid."""
    module = load_fakes()
    colors = [(128, 64, 128), (70, 130, 180), (220, 20, 60), (0, 0, 142)]
    names = ("road", HOSTILE, "pole", "train")
    space = module.LabelSpace.model_validate(
        {"name": "toys", "classes": [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)]}
    )

    class HostileToys(module.Toys):
        label_space = space

        def __init__(self, sizes):
            super().__init__(sizes, noise=0.3)
            self.items = [item._replace(name=f"{HOSTILE}{k}") for k, item in enumerate(self.items)]

    module.HostileToys = HostileToys
    module.SIZES = SIZES
    return module


@pytest.fixture(scope="session")
def network(fakes):
    model = fakes.network("hierarchical")
    model.fast = True
    return model


@pytest.fixture(scope="session")
def evaluated(fakes, network, tmp_path_factory):
    """Folder of an evaluation with counts, gallery and logits."""
    from polyscale.evaluation import Recording, evaluate

    folder = tmp_path_factory.mktemp("evaluated")
    recording = Recording(folder, gallery=None, logits=True)
    data = fakes.HostileToys(SIZES)
    evaluate(network, data, (0.5, 1, 2), compare=True, recording=recording, details={"data": HOSTILE}).write(folder)
    return folder


@pytest.fixture(scope="session")
def report_page(evaluated, tmp_path_factory):
    """The report of it."""
    from polyscale.report import read_evaluation, write_report

    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(out, [read_evaluation(evaluated, "toys")], ["polyscale", "report", HOSTILE])
    return out
