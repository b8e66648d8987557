# SPDX-License-Identifier: Apache-2.0
"""Add the SPDX license line to each source file that lacks it; with --check, name those files and exit 1.

.venv/bin/python scripts/spdx.py [--check]. The line follows a first line that has to stay first (#!).
Templates, values, goldens and generated files are left as they are: a line there would change what the kit prints.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINE = "# SPDX-License-Identifier: Apache-2.0"
GO_LINE = LINE.replace("#", "//", 1)
FOLDERS_LEFT_OUT = ("templates/", "tests/contract/golden/", "requirements/", "tests/e2e/build/")
"""The last is what the cluster's programs are built from: a change there builds them anew."""


def source_files() -> list[Path]:
    """The files under version control that are Python, Go or shell, and have no generated text in them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and not name.startswith(FOLDERS_LEFT_OUT)]
    return [ROOT / name for name in names if _is_source(ROOT / name)]


def _is_source(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    if path.suffix in (".py", ".go"):
        return path.stat().st_size > 0
    return path.suffix in ("", ".sh") and path.read_bytes()[:2] == b"#!"


def with_line(text: str, line: str) -> str:
    """The text with the license line at the top, below a first line that has to stay first."""
    if line in text.splitlines()[:3]:
        return text
    head, end, rest = text.partition("\n")
    return f"{head}{end}{line}\n{rest}" if head.startswith("#!") else f"{line}\n{text}"


def main() -> int:
    """Add the lines, or check that all are there; the exit code."""
    check = sys.argv[1:] == ["--check"]
    num_missing = 0
    for path in source_files():
        text = path.read_text()
        wanted = with_line(text, GO_LINE if path.suffix == ".go" else LINE)
        if wanted == text:
            continue
        num_missing += 1
        if check:
            sys.stderr.write(f"{path.relative_to(ROOT)}: no SPDX line\n  fix: .venv/bin/python scripts/spdx.py\n")
        else:
            path.write_text(wanted)
    return 1 if check and num_missing else 0


if __name__ == "__main__":
    sys.exit(main())
