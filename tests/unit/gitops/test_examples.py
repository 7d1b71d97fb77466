"""What people copy into Argo CD."""

from __future__ import annotations

import subprocess
import sys

import yaml

from support.argocd import CHECKS, script_of

EXAMPLES = CHECKS.parent
KEY = "resource.customizations.health.llmbatch.dev_"


def test_the_patch_of_argocd_cm_holds_the_checks():
    """It is what `make generate` writes, and each check is in it to the letter, under the key that Argo CD reads."""
    written = (EXAMPLES / "argocd-cm.yaml").read_text()
    command = [sys.executable, EXAMPLES / "argocd_cm.py"]

    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == written
    assert yaml.safe_load(written) == {
        "data": {f"{KEY}{kind}": script_of(kind) for kind in ("BatchFile", "BatchJob", "ModelDeployment")}
    }


def test_a_suffix_that_is_raised_takes_no_job_with_it():
    """Neither Argo CD nor Flux prunes the job of the run before, which may run still and was paid for."""
    job = yaml.safe_load((EXAMPLES / "batches/run/batchjob.yaml").read_text())

    annotations = job["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false"
    assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
