"""The admin API over real HTTP: what it answers, to whom, and what it never says."""

import json
import socket
import threading
from decimal import Decimal
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from support.waiting import PATIENCE
from torghut_core.admin.app import MAX_BODY
from torghut_core.admin.routes.stop import parse_stop
from torghut_core.errors import CatalogError, InputError, NotFoundError, PluginError, Problem, StateError, Unanswered
from torghut_core.telemetry.metrics import MetricSpec

READS = [
    "/catalog",
    "/catalog/generations",
    "/catalog/schema",
    "/plugins",
    "/trading/decisions",
    "/trading/executions",
    "/trading/fills",
    "/trading/health",
    "/trading/metrics",
    "/trading/status",
    "/openapi.json",
]
PROBES = ["/healthz", "/readyz", "/metrics"]
BODIES = {
    "/catalog/reload": None,
    "/catalog/rollback": None,
    "/trading/kill": None,
    "/trading/unkill": b'{"reason": "it was none"}',
    "/trading/reconcile": None,
}
"""What changes something, each with the least body that it takes."""


# ------------------------------------------------------------------------------------------------------- who may do what


@pytest.mark.parametrize("role", [None, "viewer", "operator", "admin", "unknown"])
def test_roles(api, tokens, ask_api, role):
    """With tokens configured: probes are open, reading needs a viewer, changing an operator."""
    url = api(tokens=tokens.known)
    token = {None: None, "unknown": "guess-guess-guess"}.get(role, getattr(tokens, str(role), None))
    status = 401 if role in (None, "unknown") else None
    for path in PROBES:
        assert ask_api(url, "GET", path, token=token).status == 200
    for path in READS:
        assert ask_api(url, "GET", path, token=token).status == (status or 200)
    assert ask_api(url, "POST", "/catalog/validate", b"version: 1", token).status == (status or 200)
    for path, body in BODIES.items():
        assert ask_api(url, "POST", path, body, token).status == (status or (403 if role == "viewer" else 200))


def test_change_names_its_actor(api, tokens, ask_api, kernel):
    """The kernel hears who asked for a change, by the name that the token belongs to."""
    url = api(tokens=tokens.known)
    assert ask_api(url, "POST", "/catalog/reload", token=tokens.operator).json["outcome"] == "applied"
    ask_api(url, "POST", "/catalog/rollback", b'{"to": 3}', tokens.admin)
    ask_api(url, "POST", "/catalog/rollback", b"{}", tokens.admin)
    ask_api(url, "POST", "/catalog/rollback", None, tokens.admin)
    assert kernel.calls == [
        ("reload", "operator-ann"),
        ("rollback", 3, "admin-ann"),
        ("rollback", None, "admin-ann"),
        ("rollback", None, "admin-ann"),
    ]


def test_refused_change_reaches_no_kernel(api, tokens, ask_api, kernel):
    """A request without the right to it changes nothing."""
    url = api(tokens=tokens.known)
    for path, body in BODIES.items():
        for token in (None, tokens.viewer, "guess-guess-guess"):
            ask_api(url, "POST", path, body, token)
    assert kernel.calls == []


def test_without_tokens_reading_is_open_and_changing_is_not(serve, ask_api, kernel, tmp_path, monkeypatch):
    """On a loopback address everybody may look; to change takes the token in the state directory."""
    monkeypatch.setenv("LOGNAME", "ann")
    url = serve().url
    for path in READS + PROBES:
        assert ask_api(url, "GET", path).status == 200
    kernel.calls.clear()
    for path, body in {**BODIES, "/catalog/validate": b""}.items():
        assert ask_api(url, "POST", path, body).status == 401
    local = json.loads((tmp_path / "admin.json").read_text())
    assert ask_api(url, "POST", "/catalog/reload", token=local["token"]).status == 200
    assert kernel.calls == [("reload", "local:ann")]


def test_without_tokens_other_addresses_are_closed(serve, ask_api, tmp_path):
    """Where others can connect, reading takes the local token; probes stay open."""
    url = serve(host="0.0.0.0").url
    assert [ask_api(url, "GET", path).status for path in READS] == [401] * len(READS)
    assert [ask_api(url, "GET", path, Host="10.1.2.3").status for path in PROBES] == [200] * len(PROBES)
    local = json.loads((tmp_path / "admin.json").read_text())
    assert ask_api(local["url"], "GET", "/catalog", token=local["token"]).status == 200


def test_foreign_host_is_refused(api, ask_api):
    """A page whose name was made to point here reads nothing, unless its name was allowed."""
    url = api(hosts=["Torghut.Example"])
    for path in READS + PROBES:
        answer = ask_api(url, "GET", path, Host="evil.example")
        assert answer.status == 403
        assert "ADMIN_HOSTS" in answer.json["error"]
    for host in ("localhost", "127.0.0.1:1", "torghut.example"):
        assert ask_api(url, "GET", "/catalog", Host=host).status == 200


def test_cross_site_request_is_not_invited(api, ask_api):
    """A browser that asks whether a foreign page may send a token gets no permission."""
    url = api()
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answers = [ask_api(url, "OPTIONS", "/catalog/reload", **asked), ask_api(url, "GET", "/catalog", **asked)]
    assert not any("access-control" in name.lower() for answer in answers for name in answer.headers)


# ------------------------------------------------------------------------------------------------------- what it answers


def test_catalog_is_status_and_content(api, ask_api, kernel):
    """What trades is shown as the kernel reports it."""
    answer = ask_api(api(), "GET", "/catalog")
    assert answer.json == {"status": kernel.status(), "content": json.loads(json.dumps(kernel.catalog()))}
    assert answer.headers["cache-control"] == "no-store"


def test_generations_come_in_pages(api, ask_api):
    """Following `next` gives every generation once, newest first, and then ends."""
    url = api()
    seen, pages, before = [], 0, ""
    while before is not None:
        answer = ask_api(url, "GET", f"/catalog/generations?limit=3{before}").json
        seen += [row["number"] for row in answer["generations"]]
        pages += 1
        before = answer["next"] and f"&before={answer['next']}"
    assert (seen, pages) == ([7, 6, 5, 4, 3, 2, 1], 3)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=many", "before=0", "before=x", f"before={2**63}"])
def test_page_out_of_bounds_is_bad_input(api, ask_api, query):
    """A page is bounded, and the answer names the parameter."""
    answer = ask_api(api(), "GET", f"/catalog/generations?{query}")
    assert answer.status == 400
    assert query.partition("=")[0] in answer.json["error"]


def test_validate_hands_over_the_text(api, tokens, ask_api, kernel):
    """The body is the catalog, as it is, whatever type it is said to be of."""
    url = api(tokens=tokens.known)
    text = "version: 1  # größer\n"
    for kind in ("application/yaml", "application/x-www-form-urlencoded", "application/json"):
        answer = ask_api(url, "POST", "/catalog/validate", text.encode(), tokens.viewer, **{"Content-Type": kind})
        assert answer.json == {"valid": True, "problems": [], "diff": {"changes": []}}
    assert kernel.calls == [("validate", text)] * 3


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/catalog/validate", b"\xff", 400, "not UTF-8: byte 0xff"),
        ("/catalog/validate", b"#" * (MAX_BODY + 1), 413, "Too Large"),
        ("/catalog/rollback", b"{", 400, "truncated"),
        ("/catalog/rollback", b"[]", 400, "object"),
        ("/catalog/rollback", b'{"to": "three"}', 400, "to"),
        ("/catalog/rollback", b'{"to": true}', 400, "to"),
        ("/catalog/rollback", b'{"to": 0}', 400, ">= 1"),
        ("/catalog/rollback", b'{"number": 3}', 400, "number"),
        ("/catalog/rollback", b'{"to": 7}', 404, "there is no generation 7"),
        ("/trading/unkill", b"{}", 400, "reason"),
        ("/trading/unkill", b'{"reason": "r", "state": "halted"}', 400, "state"),
        ("/trading/unkill", b'{"reason": "r", "to": "running"}', 400, "to"),
        ("/trading/unkill", b'{"reason": "' + b"r" * 501 + b'"}', 400, "reason"),
        ("/trading/reconcile", b'{"accept": "ES"}', 400, "accept"),
        ("/trading/reconcile", b'{"accept": [1]}', 400, "accept"),
        ("/trading/reconcile", b'{"symbols": ["ES"]}', 400, "symbols"),
        ("/catalog", b"", 405, "Not Allowed"),
        ("/nowhere", b"", 404, "Not Found"),
    ],
)
def test_bad_request_says_why(api, tokens, ask_api, kernel, path, body, status, said):
    """What is wrong with a request is one line of JSON, with the status that fits."""
    answer = ask_api(api(tokens=tokens.known), "POST", path, body, tokens.operator)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert said in answer.json["error"]
    assert kernel.calls == []


def test_body_up_to_the_bound_is_taken(api, tokens, ask_api):
    """A catalog of exactly 1 MiB is read."""
    body = b"#" * MAX_BODY
    assert ask_api(api(tokens=tokens.known), "POST", "/catalog/validate", body, tokens.viewer).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("no generation 3"), 404),
        (CatalogError([Problem("catalog.yaml", 2, 1, "mode", "must be sync")]), 400),
        (StateError("disk full (free some space)"), 503),
        (PluginError("macd-rsi", "raised"), 409),
    ],
)
def test_error_of_the_kernel_has_its_status(api, tokens, ask_api, kernel, error, status):
    """What the kernel raises on purpose is answered in its own words."""
    kernel.raises["reload"] = error
    answer = ask_api(api(tokens=tokens.known), "POST", "/catalog/reload", token=tokens.operator)
    assert (answer.status, answer.json) == (status, {"error": str(error)})


def test_defect_shows_no_trace(api, ask_api, kernel, capfd):
    """An unexpected exception goes to the log, and nothing of it to the caller."""
    kernel.raises["plugins"] = KeyError("inner-secret")
    answer = ask_api(api(), "GET", "/plugins")
    assert (answer.status, list(answer.json)) == (500, ["error"])
    assert "inner-secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "inner-secret" in capfd.readouterr().err


def test_no_token_is_ever_shown(api, tokens, ask_api, kernel, capfd):
    """No answer and no log line contains a token, whether it is right, wrong or in the wrong place."""
    url = api(tokens=tokens.known)
    kernel.raises["plugins"] = RuntimeError("oops")
    texts = []
    for token in (tokens.viewer, tokens.operator, "guess-guess-guess"):
        for method, path in [("GET", path) for path in READS + PROBES] + [("POST", path) for path in BODIES]:
            answer = ask_api(url, method, path, token=token)
            texts += [answer.text, str(answer.headers)]
        texts.append(ask_api(url, "GET", "/nowhere", token=token).text)
        texts.append(ask_api(url, "GET", "/catalog", Authorization=token).text)
        texts.append(ask_api(url, "GET", "/catalog", Authorization=f"Basic {token}").text)
    shown = "".join(texts) + "".join(capfd.readouterr())
    assert not any(token in shown for token in (tokens.viewer, tokens.operator, "guess-guess-guess"))


@pytest.mark.parametrize(("path", "reasons"), [("/healthz", "unwell"), ("/readyz", "unready")])
def test_probe_lists_reasons(api, ask_api, kernel, path, reasons):
    """A probe is 200 when all is well, and 503 with every reason when it is not."""
    url = api()
    good, bad, gates = {}, {}, {**kernel.gates(), "alpaca_ws": True, "kafka": False, "trade_updates": True}
    if path == "/readyz":
        good = {"status": "ready", "ready": True, "error_class": None, "gates": gates}
        bad = {"status": "not_ready", "ready": False, "error_class": "kafka_metadata", "gates": gates}
    answer = ask_api(url, "GET", path)
    assert (answer.status, answer.json) == (200, {"ok": True, "reasons": [], **good})
    setattr(kernel, reasons, ["the loop has been stuck for 12 s"])
    answer = ask_api(url, "GET", path)
    assert (answer.status, answer.json) == (503, {"ok": False, "reasons": ["the loop has been stuck for 12 s"], **bad})


def test_call_that_hangs_holds_up_no_other(api, ask_api, kernel):
    """While one request waits for the kernel, others are answered."""
    kernel.health = kernel.hang
    url = api()
    waiting = threading.Thread(target=ask_api, args=(url, "GET", "/healthz"))
    waiting.start()
    assert kernel.entered.wait(PATIENCE)
    assert ask_api(url, "GET", "/catalog").status == 200
    kernel.release.set()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_openapi_describes_what_is_answered(api, ask_api):
    """The published description names all routes, how to authorize, every body and the form of errors."""
    described = ask_api(api(), "GET", "/openapi.json").json
    paths = described["paths"]
    assert set(paths) == {*READS[:-1], *PROBES, *BODIES, "/catalog/validate"}
    assert described["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}
    assert described["security"] == [{"token": []}]
    for path, methods in paths.items():
        for method in methods.values():
            error = method["responses"]["default"]["content"]["application/json"]["schema"]
            assert error["properties"] == {"error": {"type": "string"}}
            assert (method.get("security") == []) == (path in PROBES)
    assert paths["/catalog/validate"]["post"]["requestBody"]["content"] == {
        "application/yaml": {"schema": {"type": "string"}}
    }
    for path, body in BODIES.items():
        if path != "/catalog/reload":
            described = paths[path]["post"]["requestBody"]
            assert (described["required"], list(described["content"])) == (body is not None, ["application/json"])


# --------------------------------------------------------------------------------------------------------------- trading


def test_stop_and_release_hand_over_all_that_was_said(api, tokens, ask_api, kernel):
    """The kernel hears reason, scope and actor, and its answer is the answer; what is not given has its default."""
    url = api(tokens=tokens.known)

    def post(verb, body):
        return ask_api(url, "POST", f"/trading/{verb}", body and json.dumps(body).encode(), tokens.operator).json

    assert post("kill", {"reason": "fat finger"})["control"] == {"state": "halted"}
    post("kill", {"reason": "r" * 5000, "flatten": True})
    assert post("unkill", {"reason": "all well"})["control"] == {"state": "running"}
    post("unkill", {"reason": "exits only", "state": "reduce_only"})
    post("reconcile", None)
    post("reconcile", {"accept": ["ES"], "reason": "split"})
    assert kernel.calls == [
        ("kill", "fat finger", False, "operator-ann"),
        ("kill", "r" * 5000, True, "operator-ann"),
        ("unkill", "all well", "running", "operator-ann"),
        ("unkill", "exits only", "reduce_only", "operator-ann"),
        ("reconcile", [], "", "operator-ann"),
        ("reconcile", ["ES"], "split", "operator-ann"),
    ]


POSITIONS_STAY = "positions stay as they are"


@pytest.mark.parametrize(
    ("body", "reason", "flatten", "problem"),
    [
        (None, "", False, ""),
        (b"", "", False, ""),
        (b"{}", "", False, ""),
        (b"null", "", False, POSITIONS_STAY),
        (b"fat finger", "fat finger", False, POSITIONS_STAY),
        (b'"fat finger"', "fat finger", False, POSITIONS_STAY),
        (b"reason=out&flatten=true", "reason=out&flatten=true", False, POSITIONS_STAY),
        (b'{"reason": "caf\xe9", "flatten": true}', "caf\ufffd", True, ""),
        (b'\xef\xbb\xbf{"reason": "with a mark", "flatten": true}', "with a mark", True, ""),
        (b'{"reason": "half', '{"reason": "half', False, POSITIONS_STAY),
        (b'{"reason": ""}', "", False, ""),
        (b'{"reason": null}', "", False, ""),
        (b'{"reason": 7}', "7", False, ""),
        (b'{"reason": ["a", "b"]}', '["a","b"]', False, ""),
        (b'{"reason": "r", "flaten": true}', "r", False, "'flaten'"),
        (b'{"reason": "r", "flatten": "yes"}', "r", False, POSITIONS_STAY),
        (b'{"reason": "r", "flatten": 1}', "r", False, POSITIONS_STAY),
        (b'{"reason": "' + b"r" * 100_000 + b'", "flatten": true}', "r" * 100_000, True, ""),
        (b"[" * 100_000, "[" * 100_000, False, POSITIONS_STAY),
        (b"#" * (MAX_BODY + 1), "#" * MAX_BODY, False, POSITIONS_STAY),
    ],
    ids=lambda value: str(value)[:30],
)
def test_every_stop_stops(api, tokens, ask_api, kernel, body, reason, flatten, problem):
    """Whatever the body of a stop is, of whatever type, trading stops, and the answer says what was not understood."""
    url = api(tokens=tokens.known)
    for headers in ({}, {"Content-Type": "application/json; charset=utf-16"}, {"Content-Type": "no type"}):
        answer = ask_api(url, "POST", "/trading/kill", body, tokens.operator, **headers)
        assert (answer.status, answer.json["control"]) == (200, {"state": "halted"})
        assert kernel.calls.pop() == ("kill", reason, flatten, "operator-ann")
        assert [problem in each for each in answer.json["problems"]] == [True] * bool(problem)


@given(st.binary(max_size=200) | st.from_type(str).map(lambda text: json.dumps({"reason": text}).encode()))
def test_body_of_a_stop_never_raises(body):
    """Any bytes are the body of a stop."""
    assert isinstance(parse_stop(body).reason, str)


def test_stop_does_not_wait_for_its_body(api, tokens, kernel):
    """A stop whose body does not come, or comes a byte at a time, applies all the same."""
    parts = urlsplit(api(tokens=tokens.known))
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
        connection.sendall(
            f"POST /trading/kill HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {tokens.operator}\r\n"
            "Content-Length: 1000\r\n\r\n{".encode()
        )
        assert b"200 OK" in connection.recv(1000)
    assert kernel.calls == [("kill", "{", False, "operator-ann")]


@pytest.mark.parametrize(
    ("verb", "error", "status"),
    [
        ("kill", StateError("halted could not be written anywhere: file: disk full"), 503),
        ("unkill", StateError("nothing is released: the audit database does not answer"), 503),
        ("unkill", InputError("a release needs a reason and an actor (give both)"), 400),
        ("reconcile", InputError("the broker is simulated: there is nothing to reconcile with"), 400),
        ("reconcile", Unanswered("alpaca: timed out"), 409),
    ],
)
def test_change_that_cannot_be_made_says_why(api, tokens, ask_api, kernel, verb, error, status):
    """A stop that is not in force is never answered with 200, nor is a release."""
    kernel.raises[verb] = error
    answer = ask_api(api(tokens=tokens.known), "POST", f"/trading/{verb}", b'{"reason": "r"}', tokens.operator)
    assert (answer.status, answer.json) == (status, {"error": str(error)})


def test_stop_that_waits_holds_up_no_other(api, tokens, ask_api, kernel):
    """While one stop waits for a database, a second one and whoever looks are answered."""
    url = api(tokens=tokens.known)
    quick, kernel.kill = kernel.kill, lambda *_, **__: kernel.hang()
    body = b'{"reason": "first"}'
    waiting = threading.Thread(target=ask_api, args=(url, "POST", "/trading/kill", body, tokens.operator))
    waiting.start()
    assert kernel.entered.wait(PATIENCE)
    kernel.kill = quick
    assert ask_api(url, "POST", "/trading/kill", b'{"reason": "second"}', tokens.operator).status == 200
    assert ask_api(url, "GET", "/trading/status", token=tokens.viewer).status == 200
    kernel.release.set()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


@pytest.mark.parametrize(("path", "table"), [("decisions", "trade_decisions"), ("executions", "executions")])
def test_rows_come_in_pages(api, ask_api, kernel, path, table):
    """Following `next` gives every row once, newest first, and then ends."""
    url, seen, before = api(), [], ""
    while before is not None:
        answer = ask_api(url, "GET", f"/trading/{path}?limit=5{before}").json
        seen += [row["id"] for row in answer[path]]
        before = answer["next"] and f"&before={answer['next']}"
    assert seen == list(range(14, 0, -1))
    assert kernel.calls == [(table, None, None, 6)] * 3


def test_rows_of_one_symbol_since_a_time(api, ask_api, kernel):
    """The kernel is asked for what the query says, and a symbol may hold a slash."""
    url = api()
    answer = ask_api(url, "GET", "/trading/decisions?symbol=BTC%2FUSD&since=2026-01-05T14:30:00Z&limit=200").json
    assert {row["symbol"] for row in answer["decisions"]} == {"ES"}
    assert kernel.calls == [("trade_decisions", "BTC/USD", "2026-01-05T14:30:00Z", 201)]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "before=0", "before=x", f"before={2**63}", f"symbol={'x' * 65}"]
)
def test_rows_out_of_bounds_are_bad_input(api, ask_api, kernel, query):
    """What is asked for is bounded, and the answer names the parameter."""
    answer = ask_api(api(), "GET", f"/trading/executions?{query}")
    assert (answer.status, kernel.calls) == (400, [])
    assert query.partition("=")[0] in answer.json["error"]


def test_time_that_is_none_is_bad_input(api, ask_api, kernel):
    """The answer is the kernel's error about `since`, with the fix."""
    kernel.raises["rows"] = InputError("since=today: is no time (write it as 2026-01-05T14:30:00Z)")
    answer = ask_api(api(), "GET", "/trading/decisions?since=today")
    assert (answer.status, answer.json) == (400, {"error": str(kernel.raises["rows"])})


def test_health_is_503_when_it_is_not_well(api, ask_api, kernel):
    """The health route answers with the checks, and a script sees by the status that trading is not well."""
    url = api()
    assert ask_api(url, "GET", "/trading/health").status == 200
    kernel.unwell = ["the loop has been stuck for 12 s"]
    answer = ask_api(url, "GET", "/trading/health")
    assert answer.status == 503
    assert answer.json == {"ok": False, "checks": {"loop": ["the loop has been stuck for 12 s"], "venue": []}}


def test_trading_metrics_are_those_of_prometheus(api, ask_api, kernel):
    """The JSON has every number that a scrape has, under the same name."""
    kernel.said["quarantined"] = {"bad": "raised"}
    url = api()
    samples, _ = scraped(ask_api(url, "GET", "/metrics"))
    given = ask_api(url, "GET", "/trading/metrics").json
    flat = {
        (f"torghut_{name}", label): number
        for name, value in given.items()
        for label, number in (value.items() if isinstance(value, dict) else [(None, value)])
    }
    assert flat == samples


# --------------------------------------------------------------------------------------------------------------- metrics


def scraped(answer):
    """The samples of a scrape by name and label, and the type of each family."""
    families = list(text_string_to_metric_families(answer.text))
    samples = {(s.name, s.labels.get("name")): s.value for family in families for s in family.samples}
    return samples, {family.name: family.type for family in families}


def test_metrics_have_status_and_counts(api, ask_api, kernel):
    """Prometheus reads what the status says and what the kernel counts, with types and labels."""
    kernel.said["quarantined"] = {'bad "one"': "raised", "other": "hung"}
    kernel.said["degraded"] = True
    samples, types = scraped(ask_api(api(), "GET", "/metrics"))
    assert samples == {
        ("torghut_catalog_generation", None): 7,
        ("torghut_catalog_degraded", None): 1,
        ("torghut_catalog_last_reload_successful", None): 1,
        ("torghut_catalog_last_reload_success_timestamp_seconds", None): 1767625200,
        ("torghut_plugin_quarantined", 'bad "one"'): 1,
        ("torghut_plugin_quarantined", "other"): 1,
        ("torghut_decisions_total", None): 12,
        ("torghut_event_lag_seconds", None): 0.25,
        ("torghut_denials_total", "cooldown"): 3,
    }
    assert {name for name, kind in types.items() if kind == "counter"} == {"torghut_decisions", "torghut_denials"}


def test_every_number_of_a_plugin_is_shown(api, ask_api, kernel):
    """Numbers of numpy, decimals, infinities and none at all are what they are, alone and by label."""
    numbers = {"a": np.int64(3), "b": Decimal("0.5"), "c": float("inf"), "d": float("nan"), "e": True}
    kernel.counted = {**numbers, "all": numbers}
    samples, _ = scraped(ask_api(api(), "GET", "/metrics"))
    for name, number in numbers.items():
        assert repr(samples[(f"torghut_{name}", None)]) == repr(samples[("torghut_all", name)]) == repr(float(number))


def test_metrics_follow_the_kernel(api, ask_api, kernel):
    """Each scrape has the numbers of that moment; after a failed reload the last success is when what trades began to."""
    url = api()
    before, _ = scraped(ask_api(url, "GET", "/metrics"))
    kernel.said |= {"generation": 8, "last_reload": kernel.said["last_reload"] | {"successful": False}}
    after, _ = scraped(ask_api(url, "GET", "/metrics"))
    assert before[("torghut_catalog_generation", None)] == 7
    assert after[("torghut_catalog_generation", None)] == 8
    assert after[("torghut_catalog_last_reload_successful", None)] == 0
    assert after[("torghut_catalog_last_reload_success_timestamp_seconds", None)] == 1767623400


def test_metric_that_the_kernel_counts_is_there_once(api, ask_api, kernel):
    """Where status and kernel give the same metric, the kernel's is shown, and no other."""
    kernel.counted = {"catalog_last_reload_success_timestamp_seconds": 5}
    text = ask_api(api(), "GET", "/metrics").text
    assert text.count("\ntorghut_catalog_last_reload_success_timestamp_seconds ") == 1
    assert "\ntorghut_catalog_last_reload_success_timestamp_seconds 5.0\n" in text


def test_metric_has_the_help_and_label_of_its_part(api, ask_api, kernel):
    """A part says what its metric means and which label its numbers have; one that is not described is shown all the same."""
    kernel.metric_specs = (MetricSpec("bus_lag_records", "Records that were not read yet, by topic.", "topic"),)
    kernel.counted = {"bus_lag_records": {"trades": 3}, "acme_things": {"a": 1}}
    text = ask_api(api(), "GET", "/metrics").text
    assert "# HELP torghut_bus_lag_records Records that were not read yet, by topic.\n" in text
    assert '\ntorghut_bus_lag_records{topic="trades"} 3.0\n' in text
    assert "# HELP torghut_acme_things acme things.\n" in text
    assert '\ntorghut_acme_things{name="a"} 1.0\n' in text
