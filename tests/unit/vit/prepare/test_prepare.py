# SPDX-License-Identifier: Apache-2.0
"""python -m vit.prepare: archives of the published formats become the verified tree, or one line says why not."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="vit tests need numpy: pip install numpy")
pytest.importorskip("sklearn", reason="the photographs are scikit-learn's: pip install scikit-learn")

from tests.support.ilsvrc import (  # noqa: E402  # after the skips
    DEVKIT,
    TRAIN_TAR,
    VAL_TAR,
    WNIDS,
    cut,
    jpegs,
    link_header,
    meta_mat,
    tar_of,
    tree_of,
    write_archives,
    write_devkit,
    write_tar,
)
from tests.unit.vit.data.test_cifar_mnist import write_cifar, write_fashion  # noqa: E402
from vit.prepare import imagenet, small_datasets  # noqa: E402
from vit.prepare.__main__ import main  # noqa: E402
from vit.prepare.matlab import read_mat  # noqa: E402

ROOT = Path(__file__).resolve().parents[4]
KILLS = int(os.environ.get("PREPARE_KILLS", "6"))
Prepare = Callable[..., tuple[int, str]]


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    write_archives(tmp_path / "archives")
    return tmp_path / "archives"


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "ILSVRC2012"


@pytest.fixture
def prepare(archives: Path, to: Path, capfd: pytest.CaptureFixture[str]) -> Prepare:
    """Exit code and talk of the preparation of the small archives, which are a subset unless a flag takes that away."""

    def run(*flags: str, dataset: str = "imagenet1K", subset: bool = True) -> tuple[int, str]:
        words = [dataset, "--from", str(archives), "--to", str(to), *(["--allow_subset"] * subset), *flags]
        code = main(words)
        return code, capfd.readouterr().err

    return run


def refused(done: tuple[int, str], code: int, words: str) -> None:
    """One line with these words, and no traceback."""
    assert done[0] == code, done[1]
    last = done[1].strip().splitlines()[-1]
    assert words in last, done[1]
    assert "Traceback" not in done[1]


def unfinished(to: Path) -> None:
    """Nothing that looks like a data set."""
    assert not [name for name in ("train", "val", "MANIFEST.json") if (to / name).exists()]


def test_the_archives_become_the_tree_and_the_manifest_counts_it(prepare: Prepare, archives: Path, to: Path) -> None:
    wanted = write_archives(archives)
    code, said = prepare()
    assert code == 0, said
    assert tree_of(to) == wanted
    manifest = json.loads((to / "MANIFEST.json").read_text())
    assert manifest["splits"]["train"]["classes"] == dict.fromkeys(WNIDS, 6)
    assert manifest["splits"]["val"]["classes"] == dict.fromkeys(WNIDS, 3)
    assert (manifest["full"], manifest["archives"][VAL_TAR]["md5"] is None) == (False, False)
    assert "train 24 images of 4 classes, val 12 images of 4 classes" in said
    assert sorted(path.name for path in to.iterdir()) == [".prepare.lock", "MANIFEST.json", "train", "val"]


def test_the_trainer_reads_the_tree(prepare: Prepare, to: Path) -> None:
    from vit.data.datasets import FolderSource

    assert prepare()[0] == 0
    source = FolderSource(to / "val")
    assert source.class_names == sorted(WNIDS)
    assert source.image(0).shape[2] == 3


def test_again_it_is_complete_already(prepare: Prepare, to: Path) -> None:
    assert prepare()[0] == 0
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*.JPEG")}
    code, said = prepare()
    assert code == 0
    assert "is complete already" in said
    assert before == {path: path.stat().st_mtime_ns for path in to.rglob("*.JPEG")}


def test_a_subset_is_taken_only_when_it_is_asked_for(prepare: Prepare, to: Path) -> None:
    refused(prepare(subset=False), 8, "the published archive")
    unfinished(to)


def test_the_full_set_must_have_its_counts(
    prepare: Prepare, archives: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The MD5s and totals of the small archives stand in for the published ones."""
    names = {"TRAIN": TRAIN_TAR, "VAL": VAL_TAR, "DEVKIT": DEVKIT}
    write_devkit(archives / DEVKIT, [6, 6, 6, 7], [1, 4, 3, 2] * 3)
    for constant, name in names.items():
        from vit.files import file_checksum

        monkeypatch.setattr(imagenet, constant, (name, file_checksum(archives / name, "md5")))
    monkeypatch.setattr(imagenet, "FULL", {"train": 24, "val": 12})
    refused(prepare(subset=False), 8, "train has 24 of 24 images (n03255030 has 6 of 7)")
    unfinished(to)


def test_validation_images_without_a_training_class_are_left_out_of_a_subset(
    prepare: Prepare, archives: Path, to: Path
) -> None:
    files = {f"{WNIDS[0]}_{k}.JPEG": jpegs()[k] for k in range(6)}
    write_tar(archives / TRAIN_TAR, {f"{WNIDS[0]}.tar": tar_of(files)})
    code, said = prepare()
    assert code == 0, said
    assert "9 validation images are left out" in said
    assert [path.name for path in (to / "val").iterdir()] == [WNIDS[0]]


def test_validation_images_alone_are_a_subset(prepare: Prepare, archives: Path, to: Path) -> None:
    (archives / TRAIN_TAR).unlink()
    refused(prepare(subset=False), 8, f"does not contain {TRAIN_TAR}")
    assert prepare()[0] == 0
    assert len(tree_of(to)) == 12
    assert not (to / "train").exists()


def _swap(archives: Path, one: str, other: str) -> None:
    (archives / one).write_bytes((archives / other).read_bytes())


def _outer(archives: Path, content: bytes) -> None:
    """Put something between the first member of the training archive and the rest."""
    old = (archives / TRAIN_TAR).read_bytes()
    (archives / TRAIN_TAR).write_bytes(content + old)


def _inner(archives: Path, files: dict[str, bytes]) -> None:
    write_tar(archives / TRAIN_TAR, {f"{WNIDS[0]}.tar": tar_of(files)})


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "val as train": (lambda a: _swap(a, TRAIN_TAR, VAL_TAR), "is the validation archive"),
    "train as val": (lambda a: _swap(a, VAL_TAR, TRAIN_TAR), "is the training archive"),
    "no tar": (lambda a: (a / VAL_TAR).write_bytes(jpegs()[0]), "not a tar"),
    "empty": (lambda a: (a / VAL_TAR).write_bytes(b""), "not a tar"),
    "the end is missing": (lambda a: cut(a / TRAIN_TAR, 10240), "is cut off"),
    "cut in a member": (lambda a: cut(a / VAL_TAR, 20000), "is cut off"),
    "another cut": (lambda a: cut(a / TRAIN_TAR, 60001), "is cut off"),
    "a link": (lambda a: _outer(a, link_header("x", "/etc/passwd", tarfile.SYMTYPE)[:512]), "not a regular file"),
    "a hard link": (lambda a: _outer(a, link_header("x", "y", tarfile.LNKTYPE)[:512]), "not a regular file"),
    "a device": (lambda a: _outer(a, link_header("x", "", tarfile.CHRTYPE)[:512]), "not a regular file"),
    "a way out": (lambda a: _inner(a, {"../../x_1.JPEG": b"x"}), "leads out of the folder"),
    "an absolute path": (lambda a: _inner(a, {"/etc/x_1.JPEG": b"x"}), "leads out of the folder"),
    "an image of another class": (lambda a: _inner(a, {f"{WNIDS[1]}_1.JPEG": b"x"}), "not images such as"),
    "an empty image": (lambda a: _inner(a, {f"{WNIDS[0]}_1.JPEG": b""}), "is empty in the archive"),
    "no devkit": (lambda a: (a / DEVKIT).unlink(), f"does not contain {DEVKIT}"),
    "a damaged devkit": (lambda a: cut(a / DEVKIT, 100), "not a complete development kit"),
    "a devkit of fewer images": (lambda a: write_devkit(a / DEVKIT, [6] * 4, [1, 2]), "ground truth ends at 2"),
    "a truth without a class": (
        lambda a: write_devkit(a / DEVKIT, [6] * 4, [9] * 12),
        "not a complete development kit",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_archive_is_one_line_and_leaves_nothing_finished(
    prepare: Prepare, archives: Path, to: Path, name: str
) -> None:
    spoil, words = WRONG[name]
    spoil(archives)
    refused(prepare(), 8, words)
    unfinished(to)
    assert not Path("/etc/x_1.JPEG").exists()


def test_a_class_whose_tar_has_no_end_marker_is_whole_all_the_same(prepare: Prepare, archives: Path, to: Path) -> None:
    """Its size stands in the header of the tar around it."""
    files = {f"{WNIDS[0]}_{k}.JPEG": jpegs()[k] for k in range(6)}
    end = sum(512 + -(-len(content) // 512) * 512 for content in files.values())
    write_tar(archives / TRAIN_TAR, {f"{WNIDS[0]}.tar": tar_of(files)[:end]})
    assert prepare()[0] == 0
    assert len(tree_of(to)) == 6 + 3


def test_two_data_sets_are_not_mixed(prepare: Prepare, archives: Path, to: Path) -> None:
    write_fashion(archives, packed=True)
    assert prepare()[0] == 0
    refused(prepare(dataset="fashion_mnist"), 2, "contains imagenet1K")


def test_a_preparation_that_has_not_ended_is_not_mixed_with_another(prepare: Prepare, archives: Path, to: Path) -> None:
    spoiled = (archives / VAL_TAR).read_bytes()
    cut(archives / VAL_TAR, 20000)
    assert prepare()[0] == 8
    write_fashion(archives, packed=True)
    refused(prepare(dataset="fashion_mnist"), 2, "an unfinished preparation of imagenet1K")
    (archives / VAL_TAR).write_bytes(spoiled)
    refused(prepare(), 2, "begun with other archives")


def test_a_tree_that_somebody_made_is_left_alone(prepare: Prepare, to: Path) -> None:
    (to / "train").mkdir(parents=True)
    refused(prepare(), 2, "which vit.prepare did not write")


def test_a_second_one_at_once_is_refused(prepare: Prepare, to: Path) -> None:
    to.mkdir()
    with (to / ".prepare.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(prepare(), 3, "another preparation works in this folder")


def test_a_target_that_cannot_be_written_is_told(archives: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """/sys refuses root too."""
    code = main(["imagenet1K", "--from", str(archives), "--to", "/sys/kernel/data", "--allow_subset"])
    refused((code, capfd.readouterr().err), 7, "cannot be written")


def test_a_full_disk_is_told_and_the_next_start_goes_on(prepare: Prepare, archives: Path, to: Path) -> None:
    """A limit on the size of files stands in for the disk: both fail the write itself."""
    wanted = write_archives(archives)
    largest = max(len(content) for content in jpegs())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, hard))
    try:
        code = main(["imagenet1K", "--from", str(archives), "--to", str(to), "--allow_subset"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert code == 7
    unfinished(to)
    code, said = prepare()
    assert code == 0, said
    assert tree_of(to) == wanted


def start(archives: Path, to: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vit.prepare", "imagenet1K", "--allow_subset", "--num_workers", "2"]
    words = [*command, "--from", str(archives), "--to", str(to)]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)


def test_a_kill_at_any_moment_ends_in_the_same_verified_tree(tmp_path: Path) -> None:
    """PREPARE_KILLS moments, spread over the time that a whole run takes; scripts/soak prepare makes it 50."""
    archives, seeds = tmp_path / "archives", random.Random(0)
    wanted = write_archives(archives, num_train=250, num_val=100)
    began = time.monotonic()
    assert start(archives, tmp_path / "whole").wait() == 0
    took = time.monotonic() - began
    cut_short = 0
    for number in range(KILLS):
        to = tmp_path / "cut"
        process = start(archives, to)
        time.sleep(took * (0.3 + 0.75 * (number + seeds.random()) / KILLS))  # the first third starts Python
        process.kill()
        process.wait()
        if not (to / "MANIFEST.json").exists():
            cut_short += to.exists()
            assert not ((to / "train").exists() and (to / "val").exists() and not (to / ".preparing").exists())
        assert start(archives, to).wait() == 0
        assert tree_of(to) == wanted, f"kill {number}"
        assert json.loads((to / "MANIFEST.json").read_text())["splits"]["train"]["images"] == 1000
        shutil.rmtree(to)
    sys.stderr.write(f"{cut_short} of {KILLS} kills came while it worked, in {took:.1f} s of a whole run\n")
    assert cut_short


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_an_end_between_the_last_steps_is_made_good(
    prepare: Prepare, archives: Path, to: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """All is verified, and `renames` of the two folders are in place, when the machine goes down."""
    wanted, done = write_archives(archives), []
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise OSError(5, "the machine goes down")
        done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        if renames == 2:
            patch.setattr("vit.prepare.staging.write_manifest", lambda *_, **__: failing(to, to))
        assert prepare()[0] == 7
    assert not (to / "MANIFEST.json").exists()
    code, said = prepare()
    assert code == 0, said
    assert tree_of(to) == wanted
    assert not (to / ".preparing").exists()


def test_a_stop_is_told_and_the_next_start_goes_on(tmp_path: Path) -> None:
    archives, to = tmp_path / "archives", tmp_path / "to"
    wanted = write_archives(archives, num_train=250, num_val=100)
    process = start(archives, to)
    while not (to / ".preparing" / "state.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait() in (143, 0)
    assert start(archives, to).wait() == 0
    assert tree_of(to) == wanted


def test_cifar_and_fashion_mnist_are_copied_and_read_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for dataset in ("cifar10", "cifar100", "fashion_mnist"):
        source, to = tmp_path / f"{dataset}-archives", tmp_path / dataset
        write_fashion(source, packed=True) if dataset == "fashion_mnist" else pack_cifar(source, dataset)
        words = [dataset, "--from", str(source), "--to", str(to)]
        refused((main(words), capfd.readouterr().err), 8, "the published archive")
        shutil.rmtree(to)
        assert main([*words, "--allow_subset"]) == 0, capfd.readouterr().err
        from vit.data.cifar_mnist import open_archive

        assert len(open_archive(dataset, to, "train")) == (10 if dataset == "cifar100" else 50)
        assert json.loads((to / "MANIFEST.json").read_text())["splits"]["val"]["images"] == 10
        assert not (to / ".preparing").exists()
        assert main([*words, "--allow_subset"]) == 0


def pack_cifar(root: Path, dataset: str) -> None:
    """The python form of a set as its authors pack it."""
    folder = write_cifar(root / "unpacked", dataset, 0)
    with tarfile.open(root / f"{dataset.replace('cifar', 'cifar-')}-python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)


def test_the_full_fashion_mnist_has_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path / "from", packed=True)
    monkeypatch.setattr(small_datasets, "MD5S", dict.fromkeys(small_datasets.MD5S))
    assert main(["fashion_mnist", "--from", str(tmp_path / "from"), "--to", str(tmp_path / "to")]) == 8
    unfinished(tmp_path / "to")


def test_files_that_lie_where_they_are_to_be_are_marked_there(tmp_path: Path) -> None:
    write_fashion(tmp_path, packed=False)
    words = ["fashion_mnist", "--from", str(tmp_path), "--to", str(tmp_path), "--allow_subset"]
    assert main(words) == 0
    assert len(list(tmp_path.glob("*ubyte"))) == 4
    assert (tmp_path / "MANIFEST.json").exists()


def test_an_image_folder_is_looked_through_where_it_lies(images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(images, tmp_path / "tree")
    assert main(["imagefolder", "--from", str(folder)]) == 0
    assert json.loads((folder / "MANIFEST.json").read_text())["splits"]["train"]["images"] == 48


def test_an_image_folder_with_a_damaged_file_or_unequal_classes_is_told(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(images, tmp_path / "tree")
    spoiled = next(iter(sorted((folder / "train").rglob("*.*"))))
    spoiled.write_bytes(b"no image")
    refused((main(["imagefolder", "--from", str(folder)]), capfd.readouterr().err), 8, "1 of 61 files are not images")
    shutil.rmtree(next(iter((folder / "val").iterdir())))
    refused((main(["imagefolder", "--from", str(folder)]), capfd.readouterr().err), 8, "different classes")
    unfinished(folder / "nothing")
    assert not (folder / "MANIFEST.json").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_matlabs_file_is_read_as_scipy_wrote_it(packed: bool) -> None:
    synsets = read_mat(meta_mat([6, 5, 4, 3], packed=packed))["synsets"]
    assert [item["WNID"] for item in synsets] == [*WNIDS, "n00001740"]
    assert [item["num_train_images"] for item in synsets] == [[6], [5], [4], [3], [0]]
    assert synsets[4]["children"] == [1, 2]


def test_bytes_that_are_no_matlab_file_are_a_value_error() -> None:
    content = meta_mat([6, 5, 4, 3], packed=False)
    seeds = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content[: seeds.randrange(len(content))])
        for _ in range(3):
            if damaged:
                damaged[seeds.randrange(len(damaged))] = seeds.randrange(256)
        with contextlib.suppress(ValueError):
            read_mat(bytes(damaged))


def test_imagenet_needs_no_torch_numpy_or_pillow(archives: Path, to: Path) -> None:
    program = (
        "import sys\nfor name in ('torch', 'numpy', 'PIL'): sys.modules[name] = None\n"
        "from vit.prepare.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", program, "imagenet1K", "--from", str(archives), "--to", str(to), "--allow_subset"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
