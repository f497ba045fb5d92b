"""The objects that run a simulation in a cluster: made from its plan, so that they and the local form cannot differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from torghut_core.research.simulation.artifacts import write_text
from torghut_core.research.simulation.isolation import CONFIRMATION
from torghut_core.research.simulation.plan import Plan

WORKFLOW = "torghut-historical-simulation"
NIGHTLY = "torghut-simulation-nightly"
WORKFLOW_NAMESPACE = "argo-workflows"

MOUNT = "/etc/torghut-simulation"
"""Where the manifest's ConfigMap is mounted in the gates."""


def objects(plan: Plan, manifest_text: str) -> Iterator[dict[str, Any]]:
    """The ConfigMaps, the gates, the workflow and the nightly job of a simulation."""
    runtime, rollouts = plan.manifest.runtime, plan.manifest.rollouts
    yield _config_map(runtime.ta_configmap, runtime.namespace, plan.settings())
    yield _config_map(f"{runtime.torghut_service}-manifest", runtime.namespace, {"manifest.yaml": manifest_text})
    yield _gate(plan, rollouts.runtime_template, "runtime-ready", ["plan"])
    yield _gate(plan, rollouts.activity_template, "activity", ["report"])
    yield _gate(plan, rollouts.teardown_template, "teardown-clean", ["teardown"])
    yield _gate(plan, rollouts.artifact_template, "artifact-bundle", ["report", "--verify"])
    yield _workflow(plan)
    yield _nightly(plan)


def write_objects(plan: Plan, manifest: Path, folder: Path) -> list[Path]:
    """Write each object to a file of its own; return the files.

    Raises
    ------
    StateError : one cannot be written.
    """
    text = manifest.read_text(encoding="utf-8")
    return [
        write_text(
            folder / f"{each['kind'].lower()}-{each['metadata']['name']}.yaml", yaml.safe_dump(each, sort_keys=False)
        )
        for each in objects(plan, text)
    ]


def _config_map(name: str, namespace: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": _LABELS},
        "data": dict(sorted(data.items())),
    }


_LABELS = {"app.kubernetes.io/part-of": "torghut", "torghut.io/simulation": "true"}


def _gate(plan: Plan, name: str, metric: str, command: Sequence[str]) -> dict[str, Any]:
    """An AnalysisTemplate: a command of ours that ends with 0 where the gate is open."""
    runtime = plan.manifest.runtime
    arguments = ["simulate", command[0], f"--manifest={MOUNT}/manifest.yaml", "--run-id={{args.runId}}"]
    arguments += ["--output-root={{args.outputRoot}}", *command[1:]]
    job = {"spec": {"backoffLimit": 0, "template": {"spec": _pod(plan, arguments)}}}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": name, "namespace": runtime.namespace, "labels": _LABELS},
        "spec": {
            "args": [{"name": "runId"}, {"name": "outputRoot", "value": str(runtime.output_root)}],
            "metrics": [{"name": metric, "count": 1, "failureLimit": 0, "provider": {"job": job}}],
        },
    }


def _pod(plan: Plan, arguments: Sequence[str]) -> dict[str, Any]:
    """A pod that runs a command of ours, with the settings of the simulation and its manifest."""
    runtime = plan.manifest.runtime
    container = {
        "name": "torghut",
        "image": runtime.image,
        "command": ["torghut"],
        "args": list(arguments),
        "envFrom": [{"configMapRef": {"name": runtime.ta_configmap}}],
        "volumeMounts": [{"name": "manifest", "mountPath": MOUNT, "readOnly": True}],
        "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
    }
    volumes = [{"name": "manifest", "configMap": {"name": f"{runtime.torghut_service}-manifest"}}]
    return {"restartPolicy": "Never", "containers": [container], "volumes": volumes}


def _nightly(plan: Plan) -> dict[str, Any]:
    """A CronJob that simulates the day before, suspended until one resumes it."""
    arguments = ["simulate", "days", f"--manifest={MOUNT}/manifest.yaml", "--calendar-filter=skip-empty"]
    arguments += [f"--output-root={plan.manifest.runtime.output_root}", f"--confirm={CONFIRMATION}"]
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": NIGHTLY, "namespace": plan.manifest.runtime.namespace, "labels": _LABELS},
        "spec": {
            "schedule": "0 21 * * *",
            "timeZone": "America/New_York",
            "suspend": True,
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": _pod(plan, arguments)}}},
        },
    }


_SCRIPT = f"""set -eu
printf '%s' "$MANIFEST_B64" | base64 -d > /tmp/manifest.yaml
set -- "$MODE" --manifest=/tmp/manifest.yaml --run-id="$RUN_ID" --output-root="$OUTPUT_ROOT"
if [ "$MODE" = run ]; then
  [ "$CONFIRM" = {CONFIRMATION} ] || {{ echo "confirmPhrase is not {CONFIRMATION}" >&2; exit 2; }}
  set -- "$@" --confirm="$CONFIRM"
  [ "$FORCE_REPLAY" = true ] && set -- "$@" --force-replay
  [ "$FORCE_DUMP" = true ] && set -- "$@" --force-dump
  [ "$ALLOW_MISSING_STATE" = true ] && set -- "$@" --allow-missing-state
fi
exec torghut simulate "$@"
"""

_PARAMETERS = {
    "runId": "RUN_ID",
    "mode": "MODE",
    "datasetManifestB64": "MANIFEST_B64",
    "confirmPhrase": "CONFIRM",
    "forceReplay": "FORCE_REPLAY",
    "forceDump": "FORCE_DUMP",
    "allowMissingState": "ALLOW_MISSING_STATE",
    "outputRoot": "OUTPUT_ROOT",
}
"""The workflow's parameters, each with the variable by which its script reads it: no text of a parameter is run."""


def _workflow(plan: Plan) -> dict[str, Any]:
    runtime = plan.manifest.runtime
    defaults = {
        "mode": "plan",
        "confirmPhrase": "",
        "forceReplay": "false",
        "forceDump": "false",
        "allowMissingState": "false",
        "outputRoot": str(runtime.output_root),
    }
    parameters = [{"name": name} | ({"value": defaults[name]} if name in defaults else {}) for name in _PARAMETERS]
    for parameter in parameters:
        if parameter["name"] == "mode":
            parameter["enum"] = ["plan", "run", "report", "teardown"]  # type: ignore[assignment]
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": WORKFLOW, "namespace": WORKFLOW_NAMESPACE, "labels": _LABELS},
        "spec": {
            "entrypoint": "simulate",
            "arguments": {"parameters": parameters},
            "synchronization": {"mutexes": [{"name": WORKFLOW}]},
            "templates": [
                {
                    "name": "simulate",
                    "container": {
                        "image": runtime.image,
                        "command": ["sh", "-c", _SCRIPT],
                        "env": [
                            {"name": variable, "value": f"{{{{workflow.parameters.{name}}}}}"}
                            for name, variable in _PARAMETERS.items()
                        ],
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "runAsNonRoot": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    },
                }
            ],
        },
    }
