"""The commands that ask a running kernel, and the client below them."""

import json
import os
import socket
import sys
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from support.waiting import PATIENCE
from torghut_core import cli
from torghut_core.admin.client import PAGE, AdminClient, KernelNotRunning, connect
from torghut_core.admin.routes.paging import MAX_PAGE
from torghut_core.audit import SqlAuditStore
from torghut_core.catalog import load
from torghut_core.catalog.diff import diff
from torghut_core.errors import InputError, NotFoundError, StateError
from torghut_core.installation.state_directory import StateDirectory


@pytest.fixture
def torghut(monkeypatch, capsys):
    """Runs a command in this process; its exit code, and what it printed to both streams."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["torghut", *map(str, arguments)])
        code = cli._run()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def answering():
    """A server that answers each request with the same bytes, and remembers what it was asked."""
    listeners = []

    def start(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        asked = []

        def serve():
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        asked.append(connection.recv(65536).decode())
                        connection.sendall(answer)
            except OSError:
                pass  # it was closed: the test is over

        thread = threading.Thread(target=serve)
        thread.start()
        listeners.append((listener, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}", asked

    yield start
    for listener, thread in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)


def free_url():
    """A url where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def record_generation(state):
    with StateDirectory(state) as directory:
        audit = SqlAuditStore(directory.audit_url)
        audit.record_generation({"digest": "a" * 64, "diff": None}, "start", "started")
        audit.record_generation({"digest": "b" * 64, "diff": None}, "ann", "applied")
        audit.commit()
        audit.close()


# ------------------------------------------------------------------------------------------------------------ the client


@pytest.mark.parametrize("url", ["", "127.0.0.1:8181", "ftp://host", "http://", "http://a b", "http://h:x", "http://é"])
def test_what_is_no_url_is_bad_input(url):
    """A bad url is refused, and the message shows a good one."""
    with pytest.raises(InputError, match=r"write http://127\.0\.0\.1:8181"):
        AdminClient(url)


def test_token_that_cannot_be_sent_is_not_shown():
    """A token with a line break in it would break the request; the message does not repeat it."""
    with pytest.raises(InputError, match="TORGHUT_TOKEN") as caught:
        AdminClient("http://127.0.0.1", "correct-horse\r\nX: y")
    assert "horse" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 without JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "200 without JSON"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}", "500 without JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "does not answer as an admin API"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer as an admin API"),
        (b"", "does not answer as an admin API"),
    ],
)
def test_what_is_no_admin_api_is_reported(answering, answer, said):
    """Something else that listens there is an error that names the url, and no crash."""
    url, _ = answering(answer)
    with pytest.raises(StateError, match=said) as caught:
        AdminClient(url).get("/catalog")
    assert url in str(caught.value)
    assert "--url" in str(caught.value)


@pytest.mark.parametrize("limit", [1, 200, 201, 450, 1000])
def test_lists_longer_than_a_page_are_read_whole(limit, monkeypatch):
    """As many rows as are asked for come, or all that there are, page after page, and none twice."""
    client, asked = AdminClient("http://127.0.0.1:1"), []

    def get(path):
        asked.append({name: value for name, (value,) in parse_qs(urlsplit(path).query).items()})
        size, before = int(asked[-1]["limit"]), int(asked[-1].get("before", 501))
        rows = [{"id": number} for number in range(before - 1, max(0, before - 1 - size), -1)]
        return {"fills": rows, "next": rows[-1]["id"] if rows[-1]["id"] > 1 else None}

    monkeypatch.setattr(client, "get", get)
    assert [row["id"] for row in client.rows("/trading/fills", limit, symbol="BTC/USD")] == list(range(500, 0, -1))[
        :limit
    ]
    assert {each["symbol"] for each in asked} == {"BTC/USD"}
    assert max(int(each["limit"]) for each in asked) <= PAGE == MAX_PAGE


def test_redirect_takes_no_token_away(answering):
    """A token is sent to the url that was given, and not to where its answer points."""
    thief, stolen = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    url, asked = answering(f"HTTP/1.1 302 Found\r\nLocation: {thief}\r\nContent-Length: 0\r\n\r\n".encode())
    with pytest.raises(StateError):
        AdminClient(url, "correct-horse-battery").get("/catalog")
    assert "Authorization: Bearer correct-horse-battery" in asked[0]
    assert stolen == []


def test_proxy_is_not_asked(api, monkeypatch):
    """A proxy of the environment learns no token."""
    monkeypatch.setenv("http_proxy", free_url())
    assert AdminClient(api()).get("/catalog")["status"]["generation"] == 7


def test_path_of_url_is_kept(answering):
    """An API below a path, as behind an ingress, is asked there."""
    url, asked = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    AdminClient(f"{url}/torghut/").get("/catalog")
    assert asked[0].startswith("GET /torghut/catalog HTTP/1.1")


def test_local_token_goes_to_no_other_url(serve, tmp_path):
    """The token in the state directory is for who listens there; a url that is given gets the configured one."""
    server = serve()
    local = json.loads((tmp_path / "admin.json").read_text())["token"]
    assert connect(None, tmp_path, "configured-token")._token == local
    assert connect(server.url, tmp_path, "configured-token")._token == "configured-token"


def test_refusal_becomes_the_fitting_error(api, kernel, tokens):
    """What the API refuses is raised as it would be without HTTP in between; a refused token says where it is from."""
    url = api(tokens=tokens.known)
    with pytest.raises(NotFoundError, match="no generation 9"):
        AdminClient(url, tokens.operator).post("/catalog/rollback", {"to": 9})
    with pytest.raises(InputError, match=r"needs operator .*TORGHUT_TOKEN"):
        AdminClient(url, tokens.viewer).post("/catalog/rollback", {})
    with pytest.raises(InputError, match=r"a token is needed .* TORGHUT_TOKEN"):
        AdminClient(url).get("/catalog")
    kernel.raises["reload"] = StateError("disk full")
    with pytest.raises(StateError, match="disk full"):
        AdminClient(url, tokens.operator).post("/catalog/reload", {})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": 3}', '{"url": "http://'])
def test_broken_state_file_is_reported(tmp_path, content):
    """A file that torghut cannot have written is an error with its fix."""
    (tmp_path / "admin.json").write_text(content)
    with pytest.raises(StateError, match=r"admin\.json cannot be read: it is not as torghut wrote it .*--url"):
        connect(None, tmp_path, None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_state_file_of_another_user_is_reported(tmp_path):
    """A user who may not read the file gets an error that says whose it is."""
    (tmp_path / "admin.json").write_text("{}")
    (tmp_path / "admin.json").chmod(0)
    with pytest.raises(StateError, match="belongs to the user who runs torghut"):
        connect(None, tmp_path, None)


def test_no_kernel_runs_without_state_file(tmp_path):
    """Without the file of a server, no kernel is running."""
    with pytest.raises(KernelNotRunning, match="torghut run"):
        connect(None, tmp_path, None)


# -------------------------------------------------------------------------------------------------------- catalog status


def test_status_shows_what_trades(serve, torghut, tmp_path, kernel):
    """On-call needs no set-up: the state directory says where to ask."""
    url = serve().url
    code, out, err = torghut("catalog", "status", "--state", tmp_path)
    assert (code, err) == (0, "")
    first, second, third, *_ = out.splitlines()
    assert first == "trading"
    assert second.endswith("generation 7, digest dddddddddddd, since 2026-01-05T14:30:00Z, changed by: file watcher")
    assert third == "control: running (never changed)"
    assert url in out
    assert "macd-rsi-es" in out
    assert not any(
        word in out for word in ("degraded", "quarantined", "pending", "restricted", "rolled back", "polling")
    )


def test_status_shows_what_is_wrong(serve, torghut, tmp_path, kernel):
    """Every problem, pending change and quarantined strategy is there, whatever characters are in its words."""
    serve()
    kernel.said |= {
        "degraded": True,
        "problems": ["catalog.yaml:9:14: strategies[0].params.rsi_by: unknown [bold]parameter[/]"],
        "pending": [
            {
                "key": "strategy x base_timeframe",
                "old": "1Min",
                "new": "1Sec",
                "timing": "when_flat",
                "effect": "later",
            },
            {"key": "pipeline trading broker.params.cash", "new": "5", "timing": "restart", "effect": "never"},
        ],
        "quarantined": {"macd-rsi-es": "raised ValueError: [x"},
        "restriction": "reduce_only",
        "pinned": True,
        "is_polling": True,
    }
    code, out, _ = torghut("catalog", "status", "--state", tmp_path)
    assert code == 1
    for text in (
        "restricted: exits are sent, entries are not",
        "catalog: catalog.yaml:9:14: strategies[0].params.rsi_by: unknown [bold]parameter[/]\n",
        'pending: strategy x base_timeframe: "1Min" -> "1Sec"; when_flat: later\n',
        'pending: pipeline trading broker.params.cash: not given -> "5"; restart: never\n',
        "quarantine: macd-rsi-es: raised ValueError: [x\n",
        "rolled back",
        "polling",
    ):
        assert text in out


def test_status_as_json_is_the_kernels(serve, torghut, tmp_path, kernel):
    """With --json everything is there, and whether it runs."""
    url = serve().url
    _, out, _ = torghut("catalog", "status", "--state", tmp_path, "--json")
    shown = json.loads(out)
    assert shown.pop("summary")[0] == "trading"
    assert shown == {"running": True, "url": url, "reasons": [], **kernel.status()}


@pytest.mark.parametrize("is_left_over", [False, True])
def test_status_of_what_does_not_run_is_the_last_generation(torghut, tmp_path, is_left_over):
    """Without a running kernel, also if a killed process left its file, the audit database knows what traded last."""
    record_generation(tmp_path)
    if is_left_over:
        (tmp_path / "admin.json").write_text(json.dumps({"url": free_url(), "pid": 1, "token": "x" * 32}))
    code, out, err = torghut("catalog", "status", "--state", tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith("not running: nothing trades\n")
    assert "generation 2, digest bbbbbbbbbbbb, since 20" in out
    assert "changed by: ann\n" in out
    *out_lines, outcome = out.splitlines()
    assert outcome == "last reload: applied"
    _, out, _ = torghut("catalog", "status", "--state", tmp_path, "--json")
    shown = json.loads(out)
    assert shown.pop("since").endswith("Z")
    assert shown.pop("summary") == out_lines
    told = {"running": False, "generation": 2, "digest": "b" * 64, "actor": "ann", "outcome": "applied", "reasons": []}
    assert shown == told


def test_status_of_unused_state_is_not_found(torghut, tmp_path):
    """A directory where nothing was ever kept is bad input."""
    code, _, err = torghut("catalog", "status", "--state", tmp_path)
    assert code == 2
    assert "there is no state in" in err


def test_status_of_empty_database_says_so(torghut, tmp_path):
    """A database without a generation is reported as one."""
    with StateDirectory(tmp_path) as directory:
        SqlAuditStore(directory.audit_url).close()
    code, out, _ = torghut("catalog", "status", "--state", tmp_path)
    assert code == 0
    assert out.startswith("not running: nothing trades\nnothing has traded there yet\n")


def test_process_that_cannot_be_asked_is_not_well(torghut, tmp_path):
    """A process that has the directory and serves no API is named, and what the control's file says is shown."""
    with StateDirectory(tmp_path) as directory:
        directory.control_path.write_text("stop")
        code, out, _ = torghut("status", "--state", tmp_path)
    assert code == 1
    assert out.startswith("not answering: process ")
    assert "\ncontrol: halted: " in out


def test_status_of_url_where_nothing_listens_fails(torghut, tmp_path):
    """A url that was given is asked, and no database instead."""
    record_generation(tmp_path)
    url = free_url()
    code, out, err = torghut("catalog", "status", "--url", url, "--state", tmp_path)
    assert (code, out) == (1, "")
    assert url in err
    assert "torghut run" in err


def test_configured_token_is_sent(api, torghut, tokens, monkeypatch, tmp_path):
    """TORGHUT_TOKEN, or a file that TORGHUT_TOKEN_FILE names, opens a remote API; without it the error says so."""
    url = api(tokens=tokens.known)
    code, _, err = torghut("catalog", "status", "--url", url)
    assert code == 2
    assert "TORGHUT_TOKEN" in err
    (tmp_path / "token").write_text(f"{tokens.viewer}\n")
    monkeypatch.setenv("TORGHUT_TOKEN_FILE", str(tmp_path / "token"))
    assert torghut("catalog", "status", "--url", url)[0] == 0
    monkeypatch.setenv("TORGHUT_TOKEN", tokens.operator)
    assert torghut("catalog", "rollback", "--url", url)[0] == 0


# ------------------------------------------------------------------------------------------------------ catalog rollback


def test_rollback_prints_the_outcome(serve, torghut, tmp_path, kernel):
    """Without a number it is the generation before, with one it is that."""
    serve()
    assert torghut("catalog", "rollback", "--state", tmp_path)[:2] == (0, "generation 8: rolled back to None\n")
    assert torghut("catalog", "rollback", "--to", 3, "--state", tmp_path)[:2] == (0, "generation 8: rolled back to 3\n")
    assert [call[:2] for call in kernel.calls] == [("rollback", None), ("rollback", 3)]
    assert all(call[2].startswith("local:") for call in kernel.calls)


def test_rollback_to_unknown_generation_is_bad_input(serve, torghut, tmp_path):
    """An unknown generation is refused in the kernel's words."""
    serve()
    code, _, err = torghut("catalog", "rollback", "--to", 70, "--state", tmp_path)
    assert code == 2
    assert "there is no generation 70" in err


def test_rollback_with_problems_fails(serve, torghut, tmp_path, kernel):
    """What could not be applied is listed, and the exit code says so."""
    kernel.rollback = lambda to, actor: {"generation": 7, "outcome": "refused", "problems": ["plugin macd-rsi is gone"]}
    serve()
    assert torghut("catalog", "rollback", "--state", tmp_path)[:2] == (
        1,
        "generation 7: refused\nplugin macd-rsi is gone\n",
    )


def test_rollback_where_nothing_runs_fails(torghut, tmp_path):
    """There is nothing to roll back, and the message names how to start it."""
    code, _, err = torghut("catalog", "rollback", "--state", tmp_path)
    assert code == 1
    assert f"no kernel is running on {tmp_path}" in err
    assert "torghut run" in err


# ---------------------------------------------------------------------------------------------------------- catalog diff


def test_diff_against_live_is_the_diff_of_both(serve, torghut, tmp_path, catalog_text):
    """What trades is compared with the file as two files would be."""
    serve()
    new = tmp_path / "new.yaml"
    new.write_text(catalog_text.replace("rsi_buy: 45", "rsi_buy: 40"))
    code, out, _ = torghut("catalog", "diff", new, "--against-live", "--state", tmp_path, "--json")
    expected = diff(load({"a": catalog_text}), load({"b": new.read_text()})).to_json()
    assert (code, json.loads(out)) == (0, expected)
    assert expected["changes"]
    new.write_text(catalog_text)
    assert torghut("catalog", "diff", "--against-live", new, "--state", tmp_path)[1] == "no difference\n"


@pytest.mark.parametrize("arguments", [["a"], ["a", "b", "c"], ["--against-live", "a", "b"]])
def test_diff_of_other_than_two_is_bad_input(torghut, arguments):
    """Two catalogs are compared: both given, or one with the flag."""
    code, _, err = torghut("catalog", "diff", *arguments)
    assert code == 2
    assert "OLD NEW, or --against-live NEW" in err


def test_diff_against_another_format_is_refused(serve, torghut, tmp_path, kernel, catalog_text):
    """A kernel of another version, whose catalog this one does not know, is an error and no crash."""
    kernel.catalog = lambda: {"version": 2}
    serve()
    new = tmp_path / "new.yaml"
    new.write_text(catalog_text)
    code, _, err = torghut("catalog", "diff", "--against-live", new, "--state", tmp_path)
    assert code == 1
    assert "another format" in err
