"""deploy/kubernetes: valid objects, whose ports, paths and settings are those of the program."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.ops.watchdog import STOP_S
from app.settings import Settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS: dict[str, dict[str, Any]] = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
#: the oldest version of the API that has all fields, and the newest one known
VERSIONS = ("1.29", kubernetes_validate.latest_version())
POD: dict[str, Any] = OBJECTS["statefulset"]["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]
SETTINGS = dict(
    line.split("=", 1)
    for line in (FOLDER / "settings.env").read_text().splitlines()
    if line and not line.startswith("#")
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "podmonitor"])
def test_objects_are_valid(name: str, version: str) -> None:
    """Strictly: an unknown field is an error."""
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = {**OBJECTS["service"], "spec": {**OBJECTS["service"]["spec"], "port": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_kustomization_has_every_object_but_the_operators() -> None:
    assert set(KUSTOMIZATION["resources"]) == {path.name for path in FILES} - {"podmonitor.yaml"}
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    assert WORKER["envFrom"] == [{"configMapRef": {"name": generated["name"]}}]
    assert generated["envs"] == ["settings.env"]
    (image,) = KUSTOMIZATION["images"]
    (version,) = re.findall(r"^version = (\S+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert (image["name"], image["newTag"]) == (WORKER["image"], version)


def test_selectors_select_the_pods() -> None:
    labels = OBJECTS["statefulset"]["spec"]["template"]["metadata"]["labels"]
    assert OBJECTS["service"]["spec"]["selector"] == labels
    for name in ("statefulset", "poddisruptionbudget", "podmonitor"):
        assert OBJECTS[name]["spec"]["selector"] == {"matchLabels": labels}
    assert OBJECTS["networkpolicy"]["spec"]["podSelector"] == {"matchLabels": labels}
    for constraint in POD["topologySpreadConstraints"]:
        assert constraint["labelSelector"] == {"matchLabels": labels}
    assert OBJECTS["statefulset"]["spec"]["serviceName"] == OBJECTS["service"]["metadata"]["name"]
    assert labels[OBJECTS["podmonitor"]["spec"]["jobLabel"]].startswith("moodle-risk")


def test_the_settings_exist_and_fit_the_container() -> None:
    assert set(SETTINGS) <= {f.metadata["variable"] for f in fields(Settings)}
    own = {name: value for name, value in SETTINGS.items() if not name.endswith("_FILE")}
    settings = Settings.from_env(own)
    assert [port["containerPort"] for port in WORKER["ports"]] == [settings.web_port]
    assert (settings.web_bind, settings.log_format) == ("0.0.0.0", "json")
    mounts = {mount["mountPath"]: mount["name"] for mount in WORKER["volumeMounts"]}
    assert mounts[str(settings.datadir)] == "data"
    files = [Path(value) for name, value in SETTINGS.items() if name.endswith("_FILE")]
    assert files
    assert all(mounts[str(path.parent)] == "secrets" for path in files)
    volumes = {volume["name"] for volume in POD["volumes"]}
    assert set(mounts.values()) == volumes | {
        claim["metadata"]["name"] for claim in OBJECTS["statefulset"]["spec"]["volumeClaimTemplates"]
    }


def test_probes_ask_pages_that_exist_and_leave_a_recovering_worker_alive() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "app/ops").glob("*.py"))
    pages = set(re.findall(r'\.page\("(/\w+)"', sources))
    probes = {name: WORKER[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} < pages
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"web"}
    assert probes["readiness"]["httpGet"]["path"] == "/health"
    for name in ("startup", "liveness"):
        assert probes[name]["httpGet"]["path"] == "/stats"  # 200 also while /health answers 503
    liveness = probes["liveness"]
    assert liveness["periodSeconds"] * (liveness["failureThreshold"] - 1) > Settings().stall_timeout_s
    (endpoint,) = OBJECTS["podmonitor"]["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] in pages


def test_pods_are_confined() -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert f"USER {POD['securityContext']['runAsUser']}" in (ROOT / "Dockerfile").read_text().splitlines()
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = WORKER["securityContext"]
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not POD["automountServiceAccountToken"]
    for kind in ("requests", "limits"):
        assert {"cpu", "memory", "ephemeral-storage"} == set(WORKER["resources"][kind])
    assert POD["terminationGracePeriodSeconds"] >= STOP_S + 20


def test_the_network_is_confined_to_what_the_settings_name() -> None:
    policy = OBJECTS["networkpolicy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    named = {
        int(port) for name in ("RISK_BROKER", "RISK_SCHEMA_REGISTRY") for port in re.findall(r":(\d+)", SETTINGS[name])
    }
    assert ports == {53, *named}
    assert all(rule["to"] for rule in policy["egress"])
    (ingress,) = policy["ingress"]
    assert [port["port"] for port in ingress["ports"]] == ["web"]
