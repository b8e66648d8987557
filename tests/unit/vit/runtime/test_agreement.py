# SPDX-License-Identifier: Apache-2.0
"""Ranks that disagree end before step 1, all of them, with one line that names what differs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import FLAGS, ROOT, Result, clean_environment, finish, free_port  # noqa: E402  # after the skip
from vit.config import Config  # noqa: E402
from vit.errors import ConfigError  # noqa: E402
from vit.runtime.agreement import agree, compare  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402
from vit.training.facts import code_hash, facts_of  # noqa: E402

HOSTS = ["node-a"] * 4 + ["node-b"] * 4


def facts(**changes: object) -> dict[str, object]:
    return {**facts_of(Config(), Device(Ranks()), 8), **changes}


def test_one_rank_that_differs_is_named_with_its_node_and_value() -> None:
    error, warnings = compare(HOSTS, [facts(**{"--seed": 7}) if rank == 5 else facts() for rank in range(8)])
    assert error == ("--seed", "rank 5 on node-b has 7, the others 0", "start all ranks with the same command")
    assert not warnings


def test_groups_of_ranks_are_named_from_the_smallest_on() -> None:
    torches = ["2.6.0", *["2.8.0"] * 3, "2.7.0", *["2.8.0"] * 2, "2.7.0"]
    error, _ = compare(HOSTS, [facts(torch=version) for version in torches])
    assert error is not None
    assert error[1] == "rank 0 on node-a has 2.6.0, ranks 4, 7 on node-b have 2.7.0, the others 2.8.0"
    assert error[2] == "use the same image and the same files on all nodes"


def test_all_that_differs_is_named_up_to_a_limit() -> None:
    other = {"--seed": 1, "--name": "b", "--mixup": 0.5, "--aa": "rand-m9", "--momentum": 0.5}
    error, _ = compare(HOSTS[:2], [facts(), facts(**other)])
    assert error is not None
    text = "; ".join(error[:2])
    assert text.count(" rank 1 on node-a has ") == 4
    assert text.endswith("; 1 more differ")


@pytest.mark.parametrize("name", ["Python", "card", "JPEG decoder", "JPEG crops"])
def test_what_changes_no_number_is_a_warning(name: str) -> None:
    error, warnings = compare(HOSTS[:2], [facts(), facts(**{name: "another"})])
    assert error is None
    assert warnings[0].startswith(f"{name}: rank 1 on node-a has another, rank 0 has ")


@pytest.mark.parametrize("name", sorted(facts_of(Config(), Device(Ranks()), 8)))
def test_every_fact_is_compared(name: str) -> None:
    error, warnings = compare(HOSTS[:2], [facts(), facts(**{name: "another"})])
    assert (error is None) == bool(warnings)


def test_code_has_one_hash_as_a_folder_and_as_a_zip_until_it_changes(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "vit", tmp_path / "vit"))
    with zipfile.ZipFile(tmp_path / "vit.zip", "w") as archive:
        for path in folder.rglob("*.py"):
            archive.write(path, path.relative_to(tmp_path))
    assert code_hash(folder) == code_hash(zipfile.Path(tmp_path / "vit.zip", "vit/"))
    before = code_hash(folder)
    (folder / "errors.py").write_text("# another\n")
    assert code_hash(folder) != before


def test_hundreds_of_ranks_agree_or_disagree_through_one_store() -> None:
    """336 threads, each with a connection to a real store; the last of them has another flag."""
    port, patience, codes = int(free_port()), timedelta(seconds=100), dict[int, str]()

    def rank(number: int) -> None:
        store = torch.distributed.TCPStore(
            "127.0.0.1", port, is_master=number == 0, timeout=patience, wait_for_workers=False
        )
        found = facts(**{"number of ranks": 336}, **({"--num_steps": 5} if number == 335 else {}))
        try:
            agree(store, number, found)
        except ConfigError as error:
            codes[number] = str(error)

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(336)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(codes) == 336
    assert len(set(codes.values())) == 1
    assert codes[0].startswith("--num_steps: rank 335 on ")
    assert "has 5, the others 20000" in codes[0]


def run_each(flags: list[str], *of_rank: list[str], world_sizes: tuple[int, int] = (2, 2)) -> list[Result]:
    """Two ranks that share `flags` and have their own."""
    common = {**clean_environment(), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    return finish(
        [
            subprocess.Popen(
                [sys.executable, "-m", "vit.train", *FLAGS, *flags, *own],
                env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_sizes[rank])},
                cwd=ROOT,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for rank, own in enumerate(of_rank)
        ]
    )


def test_ranks_with_other_steps_and_rates_end_with_exit_2(images: Path, tmp_path: Path) -> None:
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path)]
    ranks = run_each(flags, [], ["--num_steps", "6", "--learning_rate", "0.1"])
    assert [rank.code for rank in ranks] == [2, 2], ranks
    host = os.uname().nodename
    assert ranks[0].err == (
        f"vit.train: --num_steps: rank 1 on {host} has 6, rank 0 has 12; --learning_rate: rank 1 on {host} has 0.1, "
        "rank 0 has 0.05, start all ranks with the same command\n"
    )
    assert ranks[1].err == ""
    assert not list(tmp_path.iterdir())


def test_ranks_that_count_another_number_of_them_end_with_exit_2(images: Path, tmp_path: Path) -> None:
    flags = ["--data_path", str(images), "--output_dir", str(tmp_path)]
    ranks = run_each(flags, [], [], world_sizes=(2, 3))
    assert [rank.code for rank in ranks] == [2, 2], ranks
    assert "number of ranks: rank 1 on " in ranks[0].err


def test_copies_of_the_data_and_other_loaders_are_allowed_and_other_files_are_exit_8(
    images: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(images, tmp_path / "copy"))
    flags, own = ["--output_dir", str(tmp_path)], ["--data_path", str(copy), "--num_workers", "1"]
    ranks = run_each([*flags, "--num_steps", "2"], ["--data_path", str(images)], own)
    assert [rank.code for rank in ranks] == [0, 0], ranks
    (copy / "train/class_1/001.png").rename(copy / "train/class_1/000.png")
    ranks = run_each([*flags, "--name", "b"], ["--data_path", str(images)], own)
    assert [rank.code for rank in ranks] == [8, 8], ranks
    assert "the ranks see different files: checksum of the training files: rank 1 on " in ranks[0].err
