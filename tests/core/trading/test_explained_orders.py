"""What a person reads of a decision that protects what it opens, and of one that changes an order."""

import json

from support.actions import buy, play
from torghut_core.audit import find_decision
from torghut_core.cli.render import print_explanation
from torghut_core.model.trading import OrderType, TimeInForce


def bid(price, quantity=1):
    return buy(quantity, order_type=OrderType.LIMIT, limit_price=price, time_in_force=TimeInForce.GTC)


def test_an_entry_is_shown_with_its_legs(capsys):
    """Each with its price, its state and what ended it."""
    _, _, audit = play([100, 100, 111], buy(2, stop_loss=90, take_profit=110))
    (decision,) = audit.decisions("test")
    found = find_decision(audit, decision["decision_hash"])
    entry, stop, profit = found["orders"]
    assert found["execution"] == entry
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [(each["parent"], each["parent_fill"], each["state"]) for each in (stop, profit)] == [
        (entry["client_order_id"], stop["parent_fill"], "canceled"),
        (entry["client_order_id"], stop["parent_fill"], "filled"),
    ]
    print_explanation(found)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    name, fill = entry["client_order_id"], stop["parent_fill"]
    assert lines[0].startswith("one proposed to buy 2 ES stop loss 90 take profit 110 at ")
    assert f"order {name}: buy 2 market day -> filled" in lines
    assert f"leg {name}-s1 of fill {fill}: sell 2 stop stop price 90 gtc -> canceled" in lines
    assert f"leg {name}-p1 of fill {fill}: sell 2 limit limit price 110 gtc -> filled" in lines
    assert any(line.endswith("canceled (the other leg of its bracket has filled)") for line in lines)


def test_a_leg_s_id_finds_the_decision():
    """As the id of the entry does."""
    _, _, audit = play([100, 100], buy(1, stop_loss=90))
    _, stop = audit.orders("test")
    assert find_decision(audit, stop["client_order_id"])["decision"]["decision_hash"] == stop["decision_hash"]


def test_a_changed_order_and_what_changed_it_name_each_other(capsys):
    """The decision that changed it says which order, and the order's page which decision."""
    move = lambda context: context.replace(context.orders[0], because="nearer", limit_price=97, quantity=3)  # noqa: E731
    _, _, audit = play([100, 100, 100, 100], bid(90), move)
    first, second = audit.decisions("test")
    (order,) = audit.orders("test")
    page, change = (find_decision(audit, each["decision_hash"]) for each in (first, second))
    assert (change["replaced"]["client_order_id"], change["orders"]) == (order["client_order_id"], [])
    assert [each["decision_hash"] for each in page["replacements"]] == [second["decision_hash"]]
    assert (page["replaced"], change["replacements"]) == (None, [])
    print_explanation(change)
    printed = capsys.readouterr().out
    assert f"proposed to change order {order['client_order_id']}: buy 3 ES limit price 97 at" in printed
    assert "allowed; that order is now:" in printed
    assert f"order {order['client_order_id']}: buy 3 limit limit price 97 gtc -> replaced" in printed
    print_explanation(page)
    assert f"changed by decision {second['decision_hash'][:12]} at " in capsys.readouterr().out


def test_a_change_that_was_denied_is_no_change(capsys):
    """It says that it was denied, and the order's page says nothing of it."""
    worthless = lambda context: context.replace(context.orders[0], because="none left", quantity=0)  # noqa: E731
    _, engine, audit = play([100, 100, 100, 100], bid(90), worthless)
    assert engine.totals.denied == 1
    first, second = audit.decisions("test")
    assert find_decision(audit, first["decision_hash"])["replacements"] == []
    print_explanation(find_decision(audit, second["decision_hash"]))
    assert "denied; that order is now:" in capsys.readouterr().out
