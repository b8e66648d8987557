# SPDX-License-Identifier: Apache-2.0
"""The command line of scripts/cluster."""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from collections.abc import Sequence

from testcluster import cluster
from testcluster.build import say
from testcluster.errors import EXIT_DONE, EXIT_FAILED, ClusterError
from testcluster.pins import OPERATORS
from testcluster.simulated import site_named
from testcluster.state import State, state_folder


def main(words: Sequence[str]) -> int:
    """The exit code of a command line."""
    options = _parser().parse_args(words)
    state = State(state_folder())
    try:
        return _VERBS[options.verb](state, options)
    except ClusterError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar="build | up | down | status | kubeconfig | values"
    )
    verbs.add_parser("build", help="build its programs and images, which `up` otherwise does the first time")
    up = verbs.add_parser("up", help="bring a cluster up, building its programs the first time")
    up.add_argument("--site", choices=["voyager"], help="simulate this site: 42 nodes and your namespace")
    up.add_argument("--nodes", type=int, metavar="N", help="simulated Gaudi nodes")
    up.add_argument("--user", default=getpass.getuser(), help="whose namespace voyager has  [default: login name]")
    up.add_argument("--operator", choices=OPERATORS, default=OPERATORS[0], help="version of the MPI Operator")
    verbs.add_parser("down", help="stop it and remove all that it left")
    verbs.add_parser("status", help="say whether it runs")
    verbs.add_parser("kubeconfig", help="print the path of its kubeconfig")
    verbs.add_parser("values", help="print the path of a values file for jobs on its real node")
    return parser


def _up(state: State, options: argparse.Namespace) -> int:
    began = time.monotonic()
    cluster.up(state, site_named(options.site, options.nodes, options.user, options.operator))
    say(f"ready after {time.monotonic() - began:.0f} s")
    sys.stdout.write(f"export KUBECONFIG={state.kubeconfig}\n")
    return EXIT_DONE


def _build(_state: State, _options: argparse.Namespace) -> int:
    cluster.check_machine()
    cluster.build(OPERATORS[0])
    return EXIT_DONE


def _down(state: State, _options: argparse.Namespace) -> int:
    began = time.monotonic()
    there = cluster.down(state)
    say(f"gone after {time.monotonic() - began:.1f} s" if there else f"no cluster in {state.folder}")
    return EXIT_DONE


def _status(state: State, _options: argparse.Namespace) -> int:
    lines = cluster.status(state)
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_DONE if state.exists and state.running else EXIT_FAILED


def _path(state: State, options: argparse.Namespace) -> int:
    path = state.kubeconfig if options.verb == "kubeconfig" else state.values
    if not state.exists or not path.exists():
        raise ClusterError(f"no cluster in {state.folder}", "scripts/cluster up")
    sys.stdout.write(f"{path}\n")
    return EXIT_DONE


_VERBS = {"build": _build, "up": _up, "down": _down, "status": _status, "kubeconfig": _path, "values": _path}
