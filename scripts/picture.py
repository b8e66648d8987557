# SPDX-License-Identifier: Apache-2.0
"""Make docs/images/report.png from the report of a run, and note in report.sha256 the page that it shows.

python scripts/picture.py [RUN]; RUN is output/digits of scripts/demo by default. It needs Chromium and Pillow. The
noted page is that of an invented run: its hash changes only if the page does (tests/contract/test_docs.py).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mpikit.report.page import html_page  # noqa: E402  # after the path
from mpikit.report.run import read_run  # noqa: E402
from mpikit.report.sections import page_of  # noqa: E402
from tests.support.reported import START, write_reported  # noqa: E402

PICTURE, MARK = ROOT / "docs/images/report.png", ROOT / "docs/images/report.sha256"
SIZE = (1240, 860)
COLOURS = 256


def page_mark() -> str:
    """Return the hash of the page of an invented run."""
    with tempfile.TemporaryDirectory() as folder:
        run = read_run(write_reported(Path(folder), steps=2000, ranks=16, classes=10))
        run.written = None  # the time of the file
        return hashlib.sha256(html_page(page_of(run, START, ""), "0").encode()).hexdigest()


def make_picture(run: Path) -> None:
    """Write the top of the run's report as a picture."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder, "report.html"), Path(folder, "report.png")
        command = [sys.executable, str(ROOT / "generate.py"), "report", str(run), "--out", str(page)]
        subprocess.run(command, check=True)
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        quiet = ["--headless", "--no-sandbox", "--hide-scrollbars", size, f"--user-data-dir={folder}/profile"]
        subprocess.run(["chromium", *quiet, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)
        Image.open(picture).convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)
    MARK.write_text(f"{page_mark()}\n")


if __name__ == "__main__":
    make_picture(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "output" / "digits")
