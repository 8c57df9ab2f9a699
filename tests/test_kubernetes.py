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
PAGE_POD: dict[str, Any] = OBJECTS["page-statefulset"]["spec"]["template"]["spec"]
(PAGE,) = PAGE_POD["containers"]


def settings_of(file: str) -> dict[str, str]:
    """The variables of a file of settings."""
    lines = (FOLDER / file).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


SETTINGS, PAGE_SETTINGS = settings_of("settings.env"), settings_of("page-settings.env")


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
    (version,) = re.findall(r"^version = (\S+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    of_containers = ((WORKER, "settings.env"), (PAGE, "page-settings.env"))
    triples = zip(KUSTOMIZATION["configMapGenerator"], KUSTOMIZATION["images"], of_containers, strict=True)
    for generated, image, (container, file) in triples:
        assert container["envFrom"] == [{"configMapRef": {"name": generated["name"]}}]
        assert generated["envs"] == [file]
        assert (image["name"], image["newTag"]) == (container["image"], version)


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


def test_the_pages_selectors_select_its_pods() -> None:
    labels = OBJECTS["page-statefulset"]["spec"]["template"]["metadata"]["labels"]
    assert labels != OBJECTS["service"]["spec"]["selector"]
    assert OBJECTS["page-service"]["spec"]["selector"] == labels
    assert OBJECTS["page-statefulset"]["spec"]["selector"] == {"matchLabels": labels}
    assert OBJECTS["page-networkpolicy"]["spec"]["podSelector"] == {"matchLabels": labels}
    assert OBJECTS["page-statefulset"]["spec"]["serviceName"] == OBJECTS["page-service"]["metadata"]["name"]


def test_the_pages_settings_exist_and_fit_its_container() -> None:
    assert set(PAGE_SETTINGS) <= {f.metadata["variable"] for f in fields(Settings)}
    settings = Settings.from_env({name: value for name, value in PAGE_SETTINGS.items() if not name.endswith("_FILE")})
    assert not settings.page_is_open
    assert [port["containerPort"] for port in PAGE["ports"]] == [settings.page_port]
    mounts = {mount["mountPath"]: mount["name"] for mount in PAGE["volumeMounts"]}
    assert mounts[str(settings.page_datadir)] == "data"
    files = [Path(settings.page_users), Path(PAGE_SETTINGS["RISK_KAFKA_PASSWORD_FILE"])]
    assert all(mounts[str(path.parent)] == "secrets" for path in files)
    (secret,) = [volume["secret"] for volume in PAGE_POD["volumes"] if volume["name"] == "secrets"]
    assert not secret["defaultMode"] & 0o037, "the page refuses users that others may read"
    shared = ("RISK_BROKER", "RISK_REPLICATION", "RISK_LOG_FORMAT")
    assert [PAGE_SETTINGS[name] for name in shared] == [SETTINGS[name] for name in shared]
    assert [port["targetPort"] for port in OBJECTS["page-service"]["spec"]["ports"]] == ["http"]
    assert PAGE["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert f"FROM runtime AS {PAGE['name']}" in (ROOT / "Dockerfile").read_text().splitlines()


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


@pytest.mark.parametrize("pod", [POD, PAGE_POD])
def test_pods_are_confined(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}" in (ROOT / "Dockerfile").read_text().splitlines()
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    context = container["securityContext"]
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert not pod["automountServiceAccountToken"]
    for kind in ("requests", "limits"):
        assert {"cpu", "memory", "ephemeral-storage"} == set(container["resources"][kind])
    assert pod["terminationGracePeriodSeconds"] >= STOP_S + 20


@pytest.mark.parametrize(
    ("name", "settings", "port"), [("networkpolicy", SETTINGS, "web"), ("page-networkpolicy", PAGE_SETTINGS, "http")]
)
def test_the_network_is_confined_to_what_the_settings_name(name: str, settings: dict[str, str], port: str) -> None:
    policy = OBJECTS[name]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    ports = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    servers = [settings.get(name, "") for name in ("RISK_BROKER", "RISK_SCHEMA_REGISTRY")]
    named = {int(found) for server in servers for found in re.findall(r":(\d+)", server)}
    assert ports == {53, *named}
    assert all(rule["to"] for rule in policy["egress"])
    (ingress,) = policy["ingress"]
    assert [each["port"] for each in ingress["ports"]] == [port]
