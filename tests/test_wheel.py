"""The wheel holds what the package reads at run time, not only its code."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_file_of_the_package_is_in_the_wheel(tmp_path):
    pytest.importorskip("hatchling", reason="needs hatchling: pip install -e '.[dev]'")
    arguments = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        held = set(opened.namelist())
    package = ROOT / "src" / "polyscale"
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".pyo")]
    wanted = {f"polyscale/{path.relative_to(package).as_posix()}" for path in files}
    assert wanted - held == set()
    for name in ("report.html.j2", "try.html.j2", "stage.html.j2", "report.css", "js/stage.js", "js/try.js"):
        assert f"polyscale/report/templates/{name}" in held
    assert {f"polyscale/models/shipped/{name}-lite0.safetensors" for name in ("camvid", "people", "person")} <= held
