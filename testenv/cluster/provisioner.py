#!/usr/bin/env python3
"""Volumes for the test cluster: a folder of this machine per claim of the class `standard`.

The controller manager's own provisioner makes folders that only root may write, and Weir's pods are not root. Volumes of the
type `local` obey a pod's fsGroup as disks do, so a pod that forgets it fails here as it would elsewhere. It follows the protocol
of external provisioners: a claim for which the scheduler chose the node gets a volume that names it; a released volume is deleted
with its folder.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import threading

PROVISIONER = "weir.local/node-folder"
STORAGE_CLASS = "standard"
CHOSEN_NODE = "volume.kubernetes.io/selected-node"


class Cluster:
    def __init__(self, args):
        self.command = [args.kubectl, "--kubeconfig", args.kubeconfig]
        self.node = args.node
        self.folder = pathlib.Path(args.folder)
        self.served = set()

    def watch(self, kind):
        """Every object of `kind`, and each again when it changes; ends when the API server goes away."""
        command = [*self.command, "get", kind, "--all-namespaces", "--watch", "--output", "json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "}\n":
                yield json.loads("".join(lines))
                lines = []
        process.wait()

    def run(self, *words, manifest=None):
        text = None if manifest is None else json.dumps(manifest)
        result = subprocess.run([*self.command, *words], input=text, capture_output=True, text=True)
        if result.returncode != 0:
            print(f"{' '.join(words)}: {result.stderr.strip()}", flush=True)
        return result.returncode == 0

    def serve_claim(self, claim):
        spec, meta = claim["spec"], claim["metadata"]
        waits = claim["status"].get("phase") == "Pending" and meta.get("annotations", {}).get(CHOSEN_NODE) == self.node
        if spec.get("storageClassName") != STORAGE_CLASS or not waits or "deletionTimestamp" in meta:
            return
        name = f"pvc-{meta['uid']}"
        if name in self.served:  # A claim changes once more before it is bound.
            return
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o770)
        if self.run("create", "--filename", "-", manifest=self.volume(name, path, claim)):
            self.served.add(name)

    def volume(self, name, path, claim):
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}
        meta, spec = claim["metadata"], claim["spec"]
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": STORAGE_CLASS,
                "local": {"path": str(path)},
                "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "uid": meta["uid"],
                             "name": meta["name"], "namespace": meta["namespace"]},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }

    def reclaim(self, volume):
        meta, spec = volume["metadata"], volume["spec"]
        ours = meta.get("annotations", {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        released = volume["status"].get("phase") == "Released" and "deletionTimestamp" not in meta
        if ours and released and spec["persistentVolumeReclaimPolicy"] == "Delete":
            if self.run("delete", "persistentvolume", meta["name"], "--wait=false"):
                shutil.rmtree(self.folder / meta["name"], ignore_errors=True)


def follow(cluster, kind, act):
    pause = threading.Event()
    while True:
        for found in cluster.watch(kind):
            act(found)
        pause.wait(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for flag in ("--kubectl", "--kubeconfig", "--node", "--folder"):
        parser.add_argument(flag, required=True)
    cluster = Cluster(parser.parse_args())
    releases = threading.Thread(target=follow, args=(cluster, "persistentvolumes", cluster.reclaim), daemon=True)
    releases.start()
    follow(cluster, "persistentvolumeclaims", cluster.serve_claim)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
