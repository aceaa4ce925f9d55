"""Shared fixtures. Data outside the repository is looked for beside it; where absent, tests are skipped."""

import os
from pathlib import Path

# Before torch is imported anywhere: tests run in several processes, and one thread each gives the same sums every time.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _beside(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.exists():
        pytest.skip(f"{path} is absent; set {variable} to where it is")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of stored outputs of the authors' implementation."""
    return _beside("POLYSCALE_GOLDEN", SHARED / "golden" / "open")


@pytest.fixture(scope="session")
def camvid() -> Path:
    """Folder of CamVid with train, trainannot, val, valannot."""
    return _beside("POLYSCALE_CAMVID", SHARED / "camvid")


@pytest.fixture(scope="session")
def street_clip() -> Path:
    """A dash-cam clip of a few seconds."""
    return _beside("POLYSCALE_CLIP", SHARED / "video" / "solidWhiteRight.mp4")
