# SPDX-License-Identifier: Apache-2.0
"""References to images, valid and not as distribution/reference has them."""

from __future__ import annotations

import pytest

from mpikit.text.image import image_fault

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "debian:12.5",
        "a/b/c:v1_2-3.4",
        "localhost/x",
        "localhost:5000/x:y",
        "reg.example:443/team/x__y--z.w",
        "[2001:db8::1]:5000/x",
        "UP.example/x",
        f"x@sha256:{HEX}",
        f"reg.example/x:1@sha512:{HEX * 2}",
        "x:" + "t" * 128,
        "x:" + "_UPPER",
    ],
)
def test_a_valid_reference_has_no_fault(image: str) -> None:
    assert image_fault(image) is None


@pytest.mark.parametrize(
    ("image", "reason", "fix"),
    [
        ("docker://reg.example/n:2", "starts with docker://", "write reg.example/n:2"),
        ("reg.example/Team/Tool:1", "capital letters", "write reg.example/team/tool"),
        ("Tool", "capital letters", "write tool"),
        ("tool :1", "contains a space", "without spaces"),
        ("tool\n", "contains a space", "without spaces"),
        ("tool:1:2:3", "invalid name", "REGISTRY/NAME:TAG"),
        ("${REPO}/tool:1", "placeholder character $", "REGISTRY/NAME:TAG"),
        ("{{ repo }}:1", "placeholder character {", "REGISTRY/NAME:TAG"),
        ("tool:<version>", "placeholder character <", "REGISTRY/NAME:TAG"),
        ("tool:", "invalid tag", "a tag of"),
        ("tool:-a", "invalid tag", "a tag of"),
        ("tool:" + "t" * 130, "a tag of 130 characters", "at most 128"),
        ("tool@sha256:abc", "a digest without 64", "@sha256:"),
        ("tool@md5:" + HEX, "does not start with sha256:", "@sha256:"),
        (f"tool@sha256:{HEX.upper()}", "a digest without 64", "@sha256:"),
        (HEX, "the ID of an image", "REGISTRY/NAME:TAG"),
        ("a//b", "invalid name", "REGISTRY/NAME:TAG"),
        ("/a", "invalid name", "REGISTRY/NAME:TAG"),
        ("a/b_-c", "invalid name", "REGISTRY/NAME:TAG"),
        ("-bad.example/x", "invalid registry", "REGISTRY/NAME:TAG"),
        ("a" * 256, "longer than 255", "shorten"),
        ("", "invalid name", "REGISTRY/NAME:TAG"),
    ],
)
def test_an_invalid_reference_has_its_reason_and_its_fix(image: str, reason: str, fix: str) -> None:
    found = image_fault(image)
    assert found
    assert reason in found[0]
    assert fix in found[1]
