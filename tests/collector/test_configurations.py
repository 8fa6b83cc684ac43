"""The shipped files, each held by the program that reads it; and against each other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.collector import queries
from tests.collector.programs import CONFIGURATION, Program, find, free_port, get_json, missing

COLLECTORS = ("collector.yaml", "collector-laptop.yaml")

needs_collector = pytest.mark.skipif(missing("collector") is not None, reason=missing("collector") or "")
needs_amtool = pytest.mark.skipif(missing("amtool") is not None, reason=missing("amtool") or "")


def load(*path: str) -> Any:
    return yaml.safe_load(CONFIGURATION.joinpath(*path).read_text())


def ran(*command: str, **environment: str) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- the Collector -------------------------------------------------------------------------------------------------------


@needs_collector
@pytest.mark.parametrize("name", COLLECTORS)
def test_the_collector_takes_its_configuration(name: str) -> None:
    """As shipped, with the defaults of all variables."""
    ran(find("collector") or "", "validate", "--config", str(CONFIGURATION / name))


@needs_collector
def test_a_configuration_that_is_wrong_is_refused() -> None:
    """The same command; so that the test above can fail."""
    with pytest.raises(AssertionError, match=r"cannot parse|decoding|sampling_percentage"):
        ran(
            find("collector") or "", "validate", "--config", str(CONFIGURATION / "collector.yaml"),
            OTELCOL_SAMPLING_PERCENTAGE="many",
        )  # fmt: skip


def components_used() -> set[tuple[str, str]]:
    """Kind and type of every component of both configurations."""
    return {
        (kind, name.split("/")[0])
        for file in COLLECTORS
        for kind, section in load(file).items()
        if kind != "service"
        for name in section
    }


@needs_collector
def test_the_manifest_has_exactly_the_components_that_are_used() -> None:
    """By the built program's own word: none is missing, none is left over."""
    listed = yaml.safe_load(ran(find("collector") or "", "components"))
    kinds = ("receivers", "processors", "exporters", "connectors", "extensions")
    built = {(kind, component["name"]) for kind in kinds for component in listed.get(kind) or ()}
    assert built == components_used()


@pytest.mark.parametrize("name", [*COLLECTORS, "jaeger/jaeger.yaml"])
def test_every_variable_is_documented_and_has_a_default(name: str) -> None:
    """The head of the file names each, with the default that the file has."""
    text = (CONFIGURATION / name).read_text()
    used = {key: value or "(none)" for key, value in re.findall(r"\$\{env:(\w+):-([^}]*)\}", text)}
    assert len(re.findall(r"\$\{env:", text)) == len(re.findall(r"\$\{env:\w+:-", text))
    documented = dict(re.findall(r"^# ([A-Z_]{5,}) +(\S+) ", text, re.MULTILINE))
    if name == "collector-laptop.yaml":
        shared = dict(re.findall(r"^# ([A-Z_]{5,}) +(\S+) ", (CONFIGURATION / COLLECTORS[0]).read_text(), re.MULTILINE))
        assert all(shared[variable] == default for variable, default in used.items() if variable != "OTELCOL_DEBUG")
    else:
        assert used == documented


# --- Alertmanager ---------------------------------------------------------------------------------------------------------


@needs_amtool
def test_alertmanager_takes_its_configuration() -> None:
    """Says amtool."""
    ran("amtool", "check-config", str(CONFIGURATION / "alertmanager" / "alertmanager.yaml"))


@needs_amtool
@pytest.mark.parametrize(("severity", "receiver"), [("critical", "pager"), ("warning", "tickets"), ("info", "nobody")])
def test_routes(severity: str, receiver: str) -> None:
    """Each severity that rules have goes where it should."""
    assert severity in {alert["labels"]["severity"] for alert in queries.alerts()}
    file = str(CONFIGURATION / "alertmanager" / "alertmanager.yaml")
    said = ran("amtool", "config", "routes", "test", f"--config.file={file}", f"severity={severity}")
    assert said.splitlines()[0] == receiver


SHOP = {"job": "shop", "server_address": "api.openai.com"}
MODEL = {**SHOP, "gen_ai_request_model": "gpt-4o"}


@pytest.mark.skipif(missing("prometheus-alertmanager") is not None, reason=missing("prometheus-alertmanager") or "")
def test_inhibitions(tmp_path: Path) -> None:
    """A real Alertmanager is given alerts; the milder ones of the same trouble are silenced, others' are not."""
    port = free_port()
    command = [
        "prometheus-alertmanager",
        f"--config.file={CONFIGURATION / 'alertmanager' / 'alertmanager.yaml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://127.0.0.1:{port}"
    alerts: dict[str, dict[str, str]] = {
        "quota": {"alertname": "OpenAIQuotaExhausted", "severity": "critical", **MODEL},
        "quota's throttles": {"alertname": "OpenAIThrottleRatioHigh", "severity": "warning", **MODEL},
        "quota's burn": {"alertname": "OpenAIRateLimitErrorBudgetBurn", "severity": "critical", **SHOP},
        "other's throttles": {"alertname": "OpenAIThrottleRatioHigh", "severity": "warning", **MODEL, "job": "other"},
        "other's waits": {"alertname": "OpenAIWaitingShareHigh", "severity": "warning", **MODEL, "job": "other"},
        "third's waits": {"alertname": "OpenAIWaitingShareHigh", "severity": "warning", **MODEL, "job": "third"},
        "third's page": {"alertname": "OpenAIRateLimitErrorBudgetBurn", "severity": "critical", **SHOP, "job": "third"},
        "third's ticket": {
            "alertname": "OpenAIRateLimitErrorBudgetBurn",
            "severity": "warning",
            **SHOP,
            "job": "third",
        },
        "fourth's give-ups": {"alertname": "OpenAIRateLimitGiveUps", "severity": "critical", **MODEL, "job": "fourth"},
        "fourth's page": {
            "alertname": "OpenAIRateLimitErrorBudgetBurn",
            "severity": "critical",
            **SHOP,
            "job": "fourth",
        },
        "fifth's ticket": {"alertname": "OpenAIRateLimitGiveUps", "severity": "warning", **MODEL, "job": "fifth"},
        "fifth's page": {"alertname": "OpenAIRateLimitErrorBudgetBurn", "severity": "critical", **SHOP, "job": "fifth"},
        "down": {"alertname": "OtelRatelimitCollectorDown", "severity": "critical", "job": "otel-ratelimit"},
        "absent": {"alertname": "OtelRatelimitTelemetryAbsent", "severity": "warning", "job": "shop"},
    }
    silenced = {"quota's throttles", "quota's burn", "other's waits", "third's ticket", "fourth's page", "absent"}
    with Program(command, tmp_path / "log", f"{url}/-/ready"):
        body = json.dumps([{"labels": {**labels, "test": name}} for name, labels in alerts.items()]).encode()
        request = urllib.request.Request(
            f"{url}/api/v2/alerts", data=body, headers={"content-type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=10).close()
        found: set[str] = set()
        end = time.monotonic() + 30
        while found != silenced and time.monotonic() < end:
            time.sleep(0.2)
            found = {a["labels"]["test"] for a in get_json(f"{url}/api/v2/alerts") if a["status"]["inhibitedBy"]}
        assert found == silenced
        assert len(get_json(f"{url}/api/v2/alerts")) == len(alerts)


def test_alertmanager_names_only_alerts_that_exist() -> None:
    """Each alert name of an inhibition fits an alert, so that none is silently without effect."""
    existing = {alert["alert"] for alert in queries.alerts()}
    for rule in load("alertmanager", "alertmanager.yaml")["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            name, operator, value = matcher.split(" ")
            if name == "alertname":
                pattern = value.strip('"') if operator == "=~" else re.escape(value)
                assert [one for one in existing if re.fullmatch(pattern, one)], matcher


# --- Compose and what it mounts -------------------------------------------------------------------------------------------


def test_compose_fits_its_schema() -> None:
    """Compose's own, as check-jsonschema carries it."""
    files = [str(CONFIGURATION / name) for name in ("compose.yaml", "compose.otlp.yaml")]
    ran(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


def services() -> dict[str, Any]:
    found: dict[str, Any] = load("compose.yaml")["services"]
    return found


def test_compose_is_consistent() -> None:
    """Mounted files exist and are read-only, named volumes are declared, dependencies exist, whoever must be healthy has a
    check, ports are on loopback and each once, images have a version."""
    compose = load("compose.yaml")
    published = []
    for name, service in services().items():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"]), name
        for volume in service.get("volumes", ()):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (CONFIGURATION / source).exists(), volume
                assert rest.endswith(":ro")
            else:
                assert source in compose["volumes"]
        for port in service["ports"]:
            address, outside, _ = port.split(":")
            assert address == "127.0.0.1", port
            published.append(outside)
        for other, how in service.get("depends_on", {}).items():
            assert other in services()
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services()[other]
    assert len(published) == len(set(published))


def test_grafana_has_no_password_of_its_own() -> None:
    """Compose refuses to start without one (``:?``), rather than with admin/admin."""
    environment = services()["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_PASSWORD:?")
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_the_images_have_the_versions_that_are_tested() -> None:
    """The Collector's is the manifest's; Jaeger's no older than the one that is built (2.13 is 1.76 as a module); the dashboard
    is built for a Grafana that is no newer, since newer ones read older dashboards."""
    images = {name: service["image"].split(":")[1] for name, service in services().items()}
    assert images["collector"] == load("builder.yaml")["dist"]["version"]
    modules = re.findall(r"jaeger v1\.(\d+)\.", (CONFIGURATION / "jaeger" / "go.mod").read_text())
    assert [int(images["jaeger"].split(".")[1])] >= [int(minor) - 63 for minor in modules]
    pyproject = (CONFIGURATION.parent / "pyproject.toml").read_text()
    (built_for,) = re.findall(r"grafana-foundation-sdk==\d+!(\d+)\.", pyproject)
    assert int(built_for) <= int(images["grafana"].split(".")[0])


def test_the_variant_for_otlp_is_the_same_but_for_otlp() -> None:
    """Prometheus' configuration with one section for OTLP and one for late samples more; its command with one flag more."""
    plain, variant = load("prometheus", "prometheus.yaml"), load("prometheus", "prometheus-otlp.yaml")
    assert variant.pop("otlp") == {"translation_strategy": "UnderscoreEscapingWithSuffixes"}
    assert set(variant.pop("storage")["tsdb"]) == {"out_of_order_time_window"}
    assert variant == plain
    command = services()["prometheus"]["command"]
    otlp = load("compose.otlp.yaml")["services"]["prometheus"]
    as_plain = [part.replace("-otlp.yaml", ".yaml") for part in otlp["command"] if part != "--web.enable-otlp-receiver"]
    assert as_plain == command
    (mount,) = otlp["volumes"]
    assert (CONFIGURATION / mount.split(":")[0]).exists()
    assert otlp["command"][0].partition("=")[2] == mount.split(":")[1]


def test_compose_sets_only_variables_that_are_read() -> None:
    """A misspelt variable would be no error anywhere."""
    text = "".join((CONFIGURATION / name).read_text() for name in ("collector.yaml", "jaeger/jaeger.yaml"))
    known = set(re.findall(r"\$\{env:(\w+)", text)) | {"GOMEMLIMIT", "OTEL_TRACES_SAMPLER"}
    for name in ("collector", "jaeger"):
        assert set(services()[name]["environment"]) <= known


def test_names_and_ports_fit_together() -> None:
    """Hosts in configurations are services of compose.yaml; ports those that the services listen on."""
    collector, jaeger = services()["collector"]["environment"], services()["jaeger"]["environment"]
    assert collector["JAEGER_OTLP_ENDPOINT"] == f"jaeger:{jaeger['JAEGER_OTLP_GRPC_PORT']}"
    prometheus = load("prometheus", "prometheus.yaml")
    targets = [t for job in prometheus["scrape_configs"] for s in job["static_configs"] for t in s["targets"]]
    defaults = dict(re.findall(r"\$\{env:(\w+):-([^}]*)\}", (CONFIGURATION / "collector.yaml").read_text()))
    assert targets == [
        f"collector:{defaults['OTELCOL_PROMETHEUS_PORT']}",
        f"collector:{defaults['OTELCOL_TELEMETRY_PORT']}",
    ]
    data_sources = load("grafana", "provisioning", "datasources", "datasources.yaml")["datasources"]
    sources = {source["uid"]: source for source in data_sources}
    for uid, port in (("prometheus", "9090"), ("jaeger", "16686")):
        assert sources[uid]["url"] == f"http://{uid}:{port}"
        assert f"127.0.0.1:{port}:{port}" in services()[uid]["ports"]
    # As often as programs export by default: graphs that look closer show zeros between two exports.
    assert sources["prometheus"]["jsonData"]["timeInterval"] == "60s"
    (destination,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert destination == {"name": "trace_id", "datasourceUid": "jaeger"}
    (provider,) = load("grafana", "provisioning", "dashboards", "dashboards.yaml")["providers"]
    mounts = [volume.split(":")[1] for volume in services()["grafana"]["volumes"]]
    assert [mount for mount in mounts if mount.startswith(provider["options"]["path"])]
    assert services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in mounts


# --- the dashboard --------------------------------------------------------------------------------------------------------


def test_the_dashboard_is_what_its_builder_gives() -> None:
    """Committed JSON and code are one."""
    pytest.importorskip("grafana_foundation_sdk", reason="the dashboard's library needs Python 3.11")
    code = "import dashboard, sys; sys.stdout.write(dashboard.build())"
    built = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CONFIGURATION / "grafana",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert built.stdout == queries.DASHBOARD.read_text()


def test_the_dashboard_is_whole() -> None:
    """No two panels in one place, every panel with a title and a query, points that open a trace on some of them."""
    panels = [panel for panel in json.loads(queries.DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] and queries.of_panel(panel) for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)
    dashboard = json.loads(queries.DASHBOARD.read_text())
    assert dashboard["graphTooltip"] == 1  # one crosshair for all
    assert {link["title"] for link in dashboard["links"]} == {"Throttled calls in Jaeger", "Runbooks"}
    chained = {one["name"]: one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"}
    assert list(chained) == ["job", "instance", "server", "model"]
    for name, query in chained.items():  # each offers what those before it leave
        assert set(re.findall(r"\$(\w+)", query)) == set(list(chained)[: list(chained).index(name)])
    with_exemplars = [panel["title"] for panel in panels for target in panel["targets"] if target.get("exemplar")]
    assert len(with_exemplars) >= 3


# --- the scripts ----------------------------------------------------------------------------------------------------------


def test_what_was_built_is_found_by_the_lines_that_matter(tmp_path: Path) -> None:
    """A comment makes no other program, a version does; without Go and without a build the script says so."""
    copy = tmp_path / "collector-config"
    tools = tmp_path / "bin"
    copy.mkdir()
    tools.mkdir()
    for name in ("tools.sh", "builder.yaml"):
        (copy / name).write_text((CONFIGURATION / name).read_text())
    for name in ("bash", "cut", "dirname", "grep", "rm", "sha256sum"):
        (tools / name).symlink_to(shutil.which(name) or "")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "PATH": str(tools)}

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shutil.which("bash") or "", str(copy / "tools.sh"), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )

    assert (tool("find", "collector").returncode, tool("find", "collector").stdout) == (1, "")
    refused = tool("collector")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "Go is not installed" in refused.stderr
    assert tool("find", "nothing").returncode == 2
    place = Path(tool("place", "collector").stdout.strip())
    place.parent.mkdir(parents=True)
    place.write_text("")
    place.chmod(0o755)
    manifest = copy / "builder.yaml"
    text = manifest.read_text()
    manifest.write_text(f"# a word more\n{text}")
    assert tool("find", "collector").stdout.strip() == str(place)
    assert tool("collector").stdout.strip() == str(place)
    manifest.write_text(text.replace("0.155.0", "0.156.0"))
    assert tool("find", "collector").stdout == ""
