"""What plugins and libraries log comes out like what the kernel logs."""

import logging

import pytest
import structlog

from torghut_core import errors
from torghut_core.plugin_host import PluginHost
from torghut_core.telemetry import logs


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    """No secret or configuration of another test, and none left for the next."""
    monkeypatch.setattr(logs, "_level", "")
    monkeypatch.setattr(logs, "_plugin_packages", {"torghut_sources"})
    monkeypatch.setattr(errors, "_secrets", {})
    errors.hide("planted")
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def test_plugin_logs_with_time_and_level_and_without_secrets(capsys):
    """One line for each event, also where it is logged from the standard library, tracebacks among it."""
    logs.set_level("warning")
    logs.set_level("warning")
    log = logging.getLogger("torghut_sources.sea")
    log.warning("high %s", "tide")
    log.info("low tide")
    log.warning("no tide", exc_info=ValueError("the key is planted"))
    told = capsys.readouterr().err
    assert told.count("high tide") == 1
    assert told.splitlines()[0].startswith("2")
    assert "[warning" in told.splitlines()[0]
    assert "low tide" not in told
    assert "ValueError: the key is" in told
    assert "planted" not in told


@pytest.mark.parametrize("is_loaded_first", [True, False])
def test_third_party_plugin_logs_like_ours(capsys, plugin_module, is_loaded_first):
    """Its package is known from the plugin host, whether it is loaded before or after the level is set."""
    if not is_loaded_first:
        logs.set_level("info")
    PluginHost([("acme", plugin_module("acme_alpha", {}))])
    if is_loaded_first:
        logs.set_level("info")
    logging.getLogger("acme_alpha.sea").info("low tide")
    logging.getLogger("acme_beta.sea").info("ebb")
    logged = capsys.readouterr().err
    assert "low tide" in logged
    assert "ebb" not in logged


def test_verbose_is_for_plugins_and_not_for_libraries(capsys):
    """With `-v` plugins log more; libraries warn as before, except of what they also raise."""
    logs.set_level("info")
    logging.getLogger("torghut_sources.sea").info("low tide")
    logging.getLogger("httpx").info("asked")
    logging.getLogger("httpx").warning("odd answer")
    logging.getLogger("urllib3.connectionpool").warning("Retrying")
    told = capsys.readouterr().err
    assert "low tide" in told
    assert "odd answer" in told
    assert "asked" not in told
    assert "Retrying" not in told
