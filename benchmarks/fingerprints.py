"""Whether two versions of gmpq write the same bytes: compile networks, hash what comes out.

    python benchmarks/fingerprints.py --json before.json      # on one commit
    python benchmarks/fingerprints.py --against before.json   # on the other: lists what differs

Weights are random, so that nothing but the package is needed. ``parity.json`` is compared whole,
``manifest.json`` without the versions and times that describe the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import click

Fingerprints: TypeAlias = dict[str, str]  # SHA-256 by "network target file"

NETWORKS = {  # bits, and the height and width of the input
    "cifar_resnet20": ("w4a4", 32),
    "mobilenet_v2": ("w6a6", 96),
    "resnet18": ("w3a3", 96),
    "squeezenet1_1": ("w8a8", 96),
    "efficientnet_lite0": ("w2a4", 96),
}
TARGETS = ("native", "arm64", "armv7")
FILES = ("model.onnx", "params.bin", "model.so", "model.a", "model.h", "parity.json")
RUN_FIELDS = ("created", "versions", "seconds", "measured_on")


def gmpq(*arguments: str) -> str:
    """Return what ``gmpq`` prints.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "gmpq.cli", *arguments]
    environment = os.environ | {"PYTHONHASHSEED": "0", "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def write_policy(network: str, path: Path) -> None:
    """Write a uniform policy of ``network`` with random weights."""
    bits, size = NETWORKS[network]
    gmpq("search", "uniform", network, "--weights", "random:0", "--bits", bits, "-o", str(path))
    policy = json.loads(path.read_text("utf-8"))
    policy["model"]["input"] = {"shape": [1, 3, size, size], "resize": size}
    path.write_text(json.dumps(policy), "utf-8")


def manifest_text(path: Path) -> str:
    """Return the manifest without the fields that describe one run."""
    manifest = json.loads(path.read_text("utf-8"))
    return json.dumps({k: v for k, v in manifest.items() if k not in RUN_FIELDS}, indent=1)


def fingerprints(network: str, target: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the hash of everything that a compile writes and explains."""
    policy, out = folder / f"{network}.json", folder / f"{network}-{target}"
    if not policy.exists():
        write_policy(network, policy)
    options = ("--calibration", "package:skimage/data/*.png", "--images", "2", "--no-bench")
    gmpq("compile", str(policy), "--target", target, "--out", str(out), *options)
    texts = {
        "manifest.json": manifest_text(out / "manifest.json"),
        "explain": gmpq("explain", str(out)),
    }
    contents = {name: (out / name).read_bytes() for name in FILES}
    contents |= {name: text.replace(str(folder), "").encode() for name, text in texts.items()}
    for name, content in contents.items():
        yield f"{network} {target} {name}", hashlib.sha256(content).hexdigest()


@click.command()
@click.option("--json", "written", type=click.Path(path_type=Path), help="Write the hashes there.")
@click.option("--against", type=click.Path(exists=True, path_type=Path), help="Compare with those.")
@click.option("--networks", default=",".join(NETWORKS), show_default=True)
@click.option("--targets", default=",".join(TARGETS), show_default=True)
def main(written: Path | None, against: Path | None, networks: str, targets: str) -> None:
    """Hash the outputs of NETWORKS x TARGETS."""
    found: Fingerprints = {}
    with tempfile.TemporaryDirectory() as folder:
        for network in networks.split(","):
            for target in targets.split(","):
                found |= fingerprints(network, target, Path(folder))
                print(f"{network} {target}: compiled", file=sys.stderr)
    if written is not None:
        written.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if against is not None:
        before: Fingerprints = json.loads(against.read_text("utf-8"))
        differ = [name for name in found if before.get(name) != found[name]]
        print("\n".join([*differ, f"{len(found) - len(differ)} of {len(found)} are equal"]))
        sys.exit(bool(differ))


if __name__ == "__main__":
    main()
