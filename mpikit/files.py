"""What the kit writes to disk: the folder of --out, and a first values/user.yaml."""

from __future__ import annotations

from pathlib import Path

from mpikit.errors import KitError, one_fault
from mpikit.fields import DNS_LABEL
from mpikit.job import Job
from mpikit.quoting import shown
from mpikit.render import Rendered, render_user_values
from mpikit.values import DEFAULT_FILE, USER_FILE

SCHEMA_LINE = "# yaml-language-server: $schema=values.schema.json\n"
"""The first line of each file in values/: editors with a YAML language server check and complete what is typed."""


def write_out(folder: Path, job: Job, rendered: Rendered) -> list[Path]:
    """Write job.yaml and the scripts, and for `delivery: mydir` the trainer and SHA256SUMS; returns the files."""
    files = rendered.shared_files
    if job.delivery == "configmap":
        files = {name: content for name, content in files.items() if name in rendered.scripts}
    files["job.yaml"] = rendered.manifest.encode()
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name.endswith(".sh") else 0o644)
    except OSError as error:
        raise KitError(f"--out {folder}: {error.strerror}\n  fix: give a folder that you may write to") from error
    return [folder / name for name in sorted(files)]


def write_user_values(root: Path, site: str, user: str) -> Path:
    """Write values/user.yaml from the values file of a site; an existing one is never touched."""
    target = root / USER_FILE
    shipped = sorted(path.stem for path in root.glob("*.yaml") if path.name not in (DEFAULT_FILE, USER_FILE))
    if site not in shipped:
        raise one_fault("", f'there is no values file for "{site}"', f"one of {', '.join(shipped)}", "--site")
    if user == "root" or not DNS_LABEL.fullmatch(user):
        raise one_fault("user", f"{shown(user)} names nobody's job", "--user NAME (a-z, 0-9, -)", "--user")
    default = (root / DEFAULT_FILE).read_text(encoding="utf-8")
    already = f"\nsite: {site}\n" in default  # what default.yaml says needs no copy, which would win over every -f
    of_site = "" if already else (root / f"{site}.yaml").read_text(encoding="utf-8").removeprefix(SCHEMA_LINE)
    text = SCHEMA_LINE + render_user_values(user, of_site)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise KitError(f"{target} is there already\n  fix: edit it, or move it away first") from None
    except OSError as error:
        raise KitError(f"{target}: {error.strerror}\n  fix: make the folder writable") from error
    return target


def next_step(folder: Path, job: Job) -> str:
    """What to do with a folder that --out wrote."""
    if job.delivery == "mydir":
        where = job.mydir if isinstance(job.mydir, str) else "the folder of the claim mydir"
        return f"next: copy all of {folder}/ to {where}, then kubectl apply -f {folder / 'job.yaml'}"
    return f"next: kubectl apply -f {folder / 'job.yaml'} (it carries the scripts and the trainer itself)"
