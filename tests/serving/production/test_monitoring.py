"""Rules, alerts and the dashboard: every expression parses, every metric and label is one that the server has."""

import pathlib
import re
import shutil
import subprocess

import promql_parser
import pytest
import yaml

from tests.serving.production.files import (
    CONTAINER,
    DASHBOARD,
    KUBERNETES,
    POD,
    PRODUCTION,
    RULES,
    flags,
    models_config,
)

TARGET = {"job", "instance", "namespace", "pod"}
HISTOGRAM = ("_bucket", "_sum", "_count")
MODEL, PATH = TARGET | {"model_name"}, TARGET | {"model_path", "status"}
# What TensorFlow Serving 2.16 to 2.20 exports, with its labels; Prometheus adds those of the target.
SERVER = {
    ":tensorflow:serving:request_count": MODEL | {"status"},
    **{f":tensorflow:serving:request_latency{s}": MODEL | {"API", "entrypoint", "le"} for s in HISTOGRAM},
    **{f":tensorflow:serving:runtime_latency{s}": MODEL | {"API", "runtime", "le"} for s in HISTOGRAM},
    **{f":tensorflow:serving:model_warmup_latency{s}": PATH | {"le"} for s in HISTOGRAM},
    **{
        f":tensorflow:serving:batching_session:{name}{s}": TARGET | {"le"}
        for name in ("queuing_latency", "processed_batch_size")
        for s in HISTOGRAM
    },
    ":tensorflow:cc:saved_model:load_attempt_count": PATH,
    ":tensorflow:cc:saved_model:load_latency": TARGET | {"model_path"},
}
DCGM = {f"DCGM_FI_DEV_{name}": TARGET | {"gpu"} for name in ("FB_USED", "FB_FREE", "GPU_UTIL", "XID_ERRORS")}
ALL = [rule for group in RULES["groups"] for rule in group["rules"]]
RECORDED = {rule["record"]: TARGET for rule in ALL if "record" in rule}
KNOWN = {"up": TARGET, **SERVER, **DCGM, **RECORDED}
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "text"]


def selectors(expression):
    """Metric name -> names of the labels it is filtered by, of every selector in a PromQL expression."""
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, {matcher.name for matcher in node.matchers.matchers}))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def problems(expression):
    """What is wrong with the metrics and labels of an expression."""
    return [
        f"{name}{sorted(labels - KNOWN.get(name, set()))}"
        for name, labels in selectors(expression)
        if name not in KNOWN or labels - KNOWN[name]
    ]


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("record") or rule["alert"])
def test_an_expression_asks_for_what_there_is(rule):
    assert selectors(rule["expr"]) and not problems(rule["expr"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel):
    assert panel["targets"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert selectors(target["expr"]) and not problems(target["expr"])
        assert target["datasource"] == panel["datasource"] and target["legendFormat"]


def test_the_check_finds_names_that_do_not_exist():
    assert problems("rate(:tensorflow:serving:request_counts[5m])") == [":tensorflow:serving:request_counts[]"]
    assert problems('up{jib="x"} > 0') == ["up['jib']"]
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        selectors("sum(rate(up[5m])")


def test_one_model_name_everywhere():
    name = models_config().name
    texts = [rule["expr"] for rule in ALL] + [target["expr"] for panel in PANELS for target in panel["targets"]]
    named = [re.findall(r'model_name="([^"]*)"', text) for text in texts]
    assert {found for names in named for found in names} == {name}
    # Whoever asks for another model's name must not raise an alarm here.
    for text in texts:
        for metric, labels in selectors(text):
            if "model_name" in KNOWN[metric]:
                assert "model_name" in labels, text


def test_what_was_given_up_took_as_long_as_the_server_allows():
    [rule] = [rule for rule in ALL if rule.get("record") == "amen_serving:requests_in_flight:rate2m"]
    [seconds] = re.findall(r"or (\S+) \* rate\(.*DEADLINE_EXCEEDED", rule["expr"])
    assert float(seconds) * 1000 == int(flags(CONTAINER["args"])["rest_api_timeout_in_ms"])


def test_a_pod_is_missed_only_after_the_longest_start():
    probe = CONTAINER["startupProbe"]
    assert (
        int(ALERTS["AmenServingPodDown"]["for"].rstrip("m")) * 60 > probe["periodSeconds"] * probe["failureThreshold"]
    )


def test_every_alert_is_in_the_runbook():
    page = (pathlib.Path(__file__).parents[3] / "docs" / "serving.md").read_text()
    headings = re.findall(r"^#+ (AmenServing\w+)$", page, flags=re.MULTILINE)
    assert headings == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["runbook"] == f"docs/serving.md#{name.lower()}" and rule["annotations"]["summary"]


def test_every_alert_has_a_unit_test_in_which_it_fires():
    tests = yaml.safe_load((PRODUCTION / "prometheus" / "rules_test.yml").read_text())["tests"]
    fired = {t["alertname"] for test in tests for t in test.get("alert_rule_test", ()) if t["exp_alerts"]}
    assert fired == set(ALERTS)


def _promtool():
    fetched = pathlib.Path(__file__).parents[3] / ".tools" / "promtool"
    return shutil.which("promtool") or (str(fetched) if fetched.exists() else None)


@pytest.mark.skipif(_promtool() is None, reason="promtool is not there; scripts/promtool.sh fetches it")
def test_the_rules_do_what_their_unit_tests_say(tmp_path):
    copied = shutil.copytree(PRODUCTION / "prometheus", tmp_path / "prometheus")

    def tested():
        return subprocess.run(
            [_promtool(), "test", "rules", "rules_test.yml"], cwd=copied, capture_output=True, text=True
        )

    result = tested()
    assert result.returncode == 0, result.stdout + result.stderr
    rules = copied / "rules.yml"
    rules.write_text(rules.read_text().replace("/ 1e6", "/ 1e3"))
    assert tested().returncode != 0, "milliseconds are not seconds"


def test_the_scrape_job_finds_the_pods_and_the_adapter_the_figure():
    folder = PRODUCTION / "prometheus"
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert job["job_name"] in {re.search(r'job="([^"]*)"', rule["expr"])[1] for rule in ALL if "job=" in rule["expr"]}
    assert job["metrics_path"] == POD["metadata"]["annotations"]["prometheus.io/path"]
    assert (folder / config["rule_files"][0]).is_file()
    kept = [relabel["regex"] for relabel in job["relabel_configs"] if relabel.get("action") == "keep"]
    assert kept == [POD["metadata"]["labels"]["app.kubernetes.io/name"], "8501"]
    [rule] = yaml.safe_load((folder / "adapter.yml").read_text())["rules"]
    [(asked, labels)] = selectors(rule["seriesQuery"])
    assert asked in RECORDED and labels == {"namespace", "pod"}
    pods = KUBERNETES["hpa"]["spec"]["metrics"][0]["pods"]
    assert rule["name"]["as"] == pods["metric"]["name"]
    assert re.fullmatch(r"[a-z_]+", rule["name"]["as"]), "the API of custom metrics takes no colons"


def test_the_dashboard_has_a_data_source_to_choose_and_panels_side_by_side():
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    assert DASHBOARD["uid"] and DASHBOARD["schemaVersion"] >= 36
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24 and not own & cells, panel["title"]
        cells |= own
    [text] = [panel for panel in panels if panel["type"] == "text"]
    assert "labels/stable/metadata" in text["options"]["content"]
