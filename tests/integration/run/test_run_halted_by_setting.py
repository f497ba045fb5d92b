"""A setting stops trading as `torghut kill` does, and no release is accepted while it stands."""

import pytest

from torghut_core.execution.controls import SETTING


@pytest.mark.parametrize(
    "name", ["TRADING_KILL_SWITCH_ENABLED", pytest.param("TRADING_EMERGENCY_STOP_ENABLED", marks=pytest.mark.proof)]
)
def test_a_setting_halts_and_stays(kernel, name):
    """It is recorded with its actor, nothing is sent, a release is refused with its reason, and it outlives the setting."""
    kernel.env[name] = "true"
    kernel.begin()
    control = kernel.get("/trading/status")["control"]
    assert (control["state"], control["actor"], control["reason"]) == ("halted", SETTING, f"{name} is true")
    assert sum(kernel.trade(rows=4).values()) > 0
    assert kernel.metric("orders_submitted_total") == 0
    assert name in kernel.output("unkill", "--reason", "try", code=1)
    del kernel.env[name]  # as in a shell that does not have it
    assert f"The kernel stays halted: {name} is true" in kernel.output("unkill", "--reason", "try", code=1)
    kernel.trade(rows=4)
    assert kernel.metric("orders_submitted_total") == 0
    assert kernel.send() == 0
    kernel.output("kill", "--reason", "fat finger")
    kernel.begin()
    assert kernel.get("/trading/status")["control"]["reason"] == "fat finger"
    kernel.output("unkill", "--reason", "found")
    kernel.until(lambda: sum(kernel.trade(rows=2).values()) > 0 and kernel.metric("orders_submitted_total") > 0)


def test_a_halt_by_an_operator_keeps_its_reason(kernel):
    """A halt that stands already is not written again, and is not released by the setting's end."""
    assert kernel.begin().send() == 0
    kernel.output("kill", "--reason", "fat finger")
    kernel.env["TRADING_KILL_SWITCH_ENABLED"] = "true"
    kernel.begin()
    assert kernel.get("/trading/status")["control"]["reason"] == "fat finger"


def test_without_trading_enabled_no_loop_decides(kernel):
    """The seed's switch: rows come and are shown, probes and API answer, and nothing is decided or written down."""
    del kernel.env["TRADING_ENABLED"]
    kernel.begin()
    assert sum(kernel.trade(rows=6).values()) == kernel.metric("decisions_total") == 0
    status = kernel.get("/trading/status")
    assert (status["role"], status["enabled"], status["llm"]) == ("disabled", False, {"enabled": False})
    assert kernel.send() == 0
    assert kernel.rows("trade_decisions") == kernel.rows("executions") == []
