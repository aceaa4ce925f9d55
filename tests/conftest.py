"""Shared fixtures. Data outside the repository is looked for beside it; where absent, tests are skipped."""

import os
import shutil
import tempfile
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


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, of Debian's packages chromium and chromium-driver."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -e '.[dev]'")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        message = "needs chromium and chromedriver: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        for argument in (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
            *("--disable-dev-shm-usage", "--window-size=1280,900", f"--user-data-dir={profile}"),
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        session.set_page_load_timeout(300)
        session.set_script_timeout(300)
        try:
            yield session
        finally:
            session.quit()
