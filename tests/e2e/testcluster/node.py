# SPDX-License-Identifier: Apache-2.0
"""The real node: containerd, runc, a bridge between pods, kubelet and CoreDNS."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testcluster.build import say
from testcluster.control_plane import ADDRESS, API_SERVICE, SIMULATED_LABEL, Command
from testcluster.errors import missing
from testcluster.image import PAUSE
from testcluster.keys import REAL_NODE
from testcluster.state import CGROUPS, State

BRIDGE = "pods0"
PODS = "10.244.0.0/24"
DNS_READY_PORT = 8181
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
PLUGINS = ("bridge", "host-local", "loopback")

# What containerd, runc and kubelet write outside their own folders, whatever they are told.
COVERED = ("/run", "/var/log", "/var/lib/kubelet", "/var/lib/cni")

# program, the Debian package that has it
NEEDED = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
    "debootstrap": "debootstrap",
    "openssl": "openssl",
}


def install_missing() -> None:
    """Install the Debian packages of the node's programs that are not here."""
    packages = missing_packages()
    if not packages:
        return
    install = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise missing(f"programs of the packages {', '.join(packages)} are not here", "install them")
    say(install)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["apt-get", "update", "-q"], **quiet)  # type: ignore[call-overload]  # the two streams
    words = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    result = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if missing_packages():
        say(result.stdout)
        raise missing(f"programs of the packages {', '.join(missing_packages())} are not here", install)


def missing_packages() -> list[str]:
    """Debian packages whose programs the node needs and this machine lacks."""
    found = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    found += ["containernetworking-plugins"] if plugin_folder() is None else []
    found += ["python3-venv"] if not Path("/usr/lib/python3.11/ensurepip").exists() else []
    return list(dict.fromkeys(found))


def plugin_folder() -> Path | None:
    """The folder of the CNI plugins."""
    whole = (folder for folder in PLUGIN_FOLDERS if all((folder / name).exists() for name in PLUGINS))
    return next(whole, None)


def write_configs(state: State) -> None:
    """The configurations of containerd, of the pods' network, of kubelet and of CoreDNS."""
    (state.folder / "cni").mkdir()
    (state.folder / "cni" / "10-pods.conflist").write_text(json.dumps(_network(state)))
    (state.folder / "containerd.toml").write_text(_containerd(state))
    (state.folder / "kubelet.json").write_text(json.dumps(_kubelet(state)))
    (state.folder / "Corefile").write_text(_corefile(state))


def make_bridge() -> None:
    """The bridge of the pods, and the address of the API server's Service, in the cluster's own network."""
    for words in (
        "link set lo up",
        f"addr add {API_SERVICE}/32 dev lo",
        f"link add {BRIDGE} type bridge",
        f"addr add {ADDRESS}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ):
        subprocess.run(["ip", *words.split()], check=True)


def make_cgroups(state: State) -> None:
    """The cgroup below which kubelet puts all pods, in each controller."""
    if (CGROUPS / "cgroup.controllers").exists():
        for name in (CGROUPS / "cgroup.controllers").read_text().split():
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{name}")
        (CGROUPS / state.cgroup).mkdir(exist_ok=True)
        return
    for controller in CGROUPS.iterdir():
        if controller.is_dir() and (controller / "cgroup.procs").exists():
            (controller / state.cgroup).mkdir(exist_ok=True)


def containerd(state: State) -> Command:
    """containerd with all of its files in the state folder."""
    return ["containerd", "--config", str(state.folder / "containerd.toml")]


def socket(state: State) -> Path:
    """The socket of containerd."""
    return state.folder / "containerd" / "socket"


def import_image(state: State, archive: Path) -> Command:
    """The command that loads an image archive for kubelet's pods."""
    return ["ctr", "--address", str(socket(state)), "--namespace", "k8s.io", "images", "import", str(archive)]


def kubelet(programs: Mapping[str, Path], state: State) -> Command:
    """kubelet of the real node."""
    folder = state.folder / "kubelet"
    return [
        str(programs["kubelet"]),
        *(f"--config={state.folder}/kubelet.json", f"--kubeconfig={state.folder}/kubeconfigs/kubelet"),
        *(f"--root-dir={folder}", f"--cert-dir={folder}/pki"),
        *(f"--hostname-override={REAL_NODE}", f"--node-ip={ADDRESS}", f"--node-labels={SIMULATED_LABEL}=false"),
    ]


def coredns(programs: Mapping[str, Path], state: State) -> Command:
    """CoreDNS, the name server of the pods."""
    return [str(programs["coredns"]), "-conf", str(state.folder / "Corefile")]


def coredns_rights() -> list[dict[str, Any]]:
    """What CoreDNS may read."""
    api = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": rules}
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "coredns"},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "coredns"},
        "subjects": [{"apiGroup": api, "kind": "User", "name": "coredns"}],
    }
    return [role, binding]


def _network(state: State) -> dict[str, Any]:
    ranges = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "promiscMode": True}
    ipam = {"ipam": {**ranges, "dataDir": str(state.folder / "cni-addresses")}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge | ipam]}


def _containerd(state: State) -> str:
    folder = state.folder / "containerd"
    runtime = 'plugins."io.containerd.grpc.v1.cri".containerd'
    return f"""version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket(state)}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugin_folder()}"
    conf_dir = "{state.folder}/cni"
  [{runtime}]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [{runtime}.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [{runtime}.runtimes.runc.options]
    SystemdCgroup = false
"""


def _kubelet(state: State) -> dict[str, Any]:
    """Nothing is evicted or collected here: a full disk of this machine must not delete the imported images."""
    never = dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(state.folder / "keys" / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket(state)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{state.cgroup}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "evictionHard": never,
        "volumeStatsAggPeriod": "5s",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        "address": ADDRESS,
        "healthzPort": 0,
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": str(state.folder / "pod-logs"),
        "volumePluginDir": str(state.folder / "volume-plugins"),
        "maxPods": 50,
    }


def _corefile(state: State) -> str:
    return f""".:53 {{
  bind {ADDRESS}
  errors
  ready {ADDRESS}:{DNS_READY_PORT}
  kubernetes cluster.local {{
    kubeconfig {state.folder}/kubeconfigs/coredns test-cluster
    ttl 1
  }}
}}
"""
