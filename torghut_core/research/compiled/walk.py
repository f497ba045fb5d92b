"""The loop's rules for orders on bars, in one compiled walk over a tape: from targets to fills, cash and equity.

It says what the decision engine, the kernel's gates, the gateway and a simulated broker with `FillTerms` do to market orders and
the legs of their brackets; docs/fills.md and docs/risk.md have the rules. What it cannot say exactly it does not say: it stops
there with a reason (`STOPS`), and the loop has to run. So amounts of money, which are floats here, are compared with room for
their rounding: a purchase that the account can hardly pay for stops it. Quantities are whole numbers of `UNIT`, and prices are
compared as the loop compares them, so what it fills is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torghut_core.model.market import FloatArray, IntArray
from torghut_core.stages.base import kernel

UNITS_OF_ONE = 10**9
"""So many parts a simulated broker divides a unit into: quantities are counted in these."""
UNIT = 1 / UNITS_OF_ONE
MOST_UNITS = 4e9
"""Of a target: in `UNIT`, twice as much fits into 64 bits."""

MOST_DECISIONS = 10_000
"""A strategy that makes more decisions in one minute of the loop's time is quarantined, see `engine.MAX_DECISIONS`."""

STOPS = (
    "",
    "it makes more decisions in a minute than a strategy may",
    "an amount of money meets a limit to the last digits",
    "an exit that closes a position takes back an open entry",
    "what is protected is added to, or sold in parts",
    "the legs that protect a short position hold buying power that another order needs",
    "another strategy of the account holds what an exit would close",
    "an order found no session of its calendar",
    "too many orders are open at a time",
    "an order expired between two bars of its symbol",
    "more fills than there is room for",
)
"""Why the walk stopped, by number; the first is that it did not."""
DONE, BUSY, TIGHT, OPPOSED, UNEVEN, HELD, SHARED, SHUT, CROWDED, OVER, FULL = range(len(STOPS))

HAS_PRICE, IS_FRESH, IS_SANE = 1, 2, 4
"""Bits of a row: its close is a number, it is fresh, and near the prices before it."""

IS_NEWS, IS_OPEN = 1, 2
"""Bits of a bar: orders may meet it, and it is in a session."""

ROOM = 1e-9
"""Share of an amount of money that its rounding may have changed, and much more."""

NEVER = np.int64(2**63 - 1)
DAY = np.int64(86_400_000_000_000)

NOTIONAL, POSITION_SHARE, BUYING_POWER, PAUSE, NO_SHORTS = range(5)
KINDS = ("notional", "position-share", "buying-power", "pause", "no-shorts")
"""The kinds of `RuleTerms`, by number."""
SMALLEST_CUT = 1000
"""The kernel cuts orders to whole multiples of this, in `UNIT`; see `gates.QUANTITY_STEP`."""

# Columns of the table of orders.
VIEW, UNITS, IS_BUY, IS_EXIT, SINCE, ENDS, UNTIL, IS_FRESH_ORDER, FIRST, ROW, NEXT = range(11)
# Columns of their prices.
BOUND, RESERVE, STOP, PROFIT = range(4)
# Columns of the table of fills.
FILLS = ("bar", "row", "strategy", "symbol", "is_buy", "units", "basis", "is_maker")
AT_OPEN, AT_STOP, AT_LIMIT, AT_BETTER = range(4)
"""What a fill's price is made of: the open, or a stop, with slippage; a limit; or the better of limit and open with slippage."""
# What is counted.
COUNTS = ("decisions", "denied", "orders", "fills", "expired")
N_DECISIONS, N_DENIED, N_ORDERS, N_FILLS, N_EXPIRED = range(len(COUNTS))


@kernel
def count_units(targets: FloatArray, whole: IntArray) -> tuple[float, NDArray[np.bool_]]:
    """Count targets in `UNIT`, rounded down and up, shape (rows, 2); NaN is left out.

    Returns
    -------
    The largest, and which rows have to be counted in decimals, shape (rows,): where sixteen digits do not say which decimal a
    target prints as.
    """
    most = 0.0
    inexact = np.zeros(len(targets), np.bool_)
    for row in range(len(targets)):
        target = targets[row]
        if target != target:
            continue
        size = abs(target)
        most = max(most, size)
        if size > MOST_UNITS:
            break
        count = np.rint(target * UNITS_OF_ONE)
        inexact[row] = target != np.rint(target) and (size >= 1e6 or count / UNITS_OF_ONE != target)
        whole[row, 0] = whole[row, 1] = np.int64(count)
    return most, inexact


@kernel
def fee_of(fees: FloatArray, is_buy: bool, notional: float, quantity: float, is_maker: bool) -> float:
    """What an order of one fill owes; rows of `fees` are those of `FeeTerms`, shape (fees, 7)."""
    owed = 0.0
    for number in range(len(fees)):
        fee = fees[number]
        if fee[6] != 0 and (fee[6] > 0) != is_buy:
            continue
        due = notional * (fee[0] if is_maker else fee[1]) + quantity * fee[2]
        owed += min(max(due, fee[3]), fee[4], notional * fee[5])
    return owed


@kernel
def leg_price(
    sign: float, opened: float, worst: float, best: float, stop: float, profit: float, slip: float, rests: bool
) -> tuple[float, int, float, bool]:
    """At which price a bar fills a leg of a bracket, what that is made of, the leg's price, and whether it brings liquidity.

    Parameters
    ----------
    sign : 1 for legs that buy, -1 for legs that sell.
    worst, best : the end of the bar that reaches the stop, and the one that reaches the take-profit.
    stop, profit : prices of the legs; NaN where there is none.
    slip : what a price is multiplied by that slips.
    rests : the take-profit waits for its price since an earlier bar, or did not cross the market when it came.

    Returns
    -------
    NaN for a price that is not reached.
    """
    if sign * opened >= sign * stop:
        return opened * slip, AT_OPEN, stop, False
    if sign * worst >= sign * stop:
        return stop * slip, AT_STOP, stop, False
    if sign * opened <= sign * profit:
        price = min(profit, opened * slip) if sign > 0 else max(profit, opened * slip)
        return price, AT_BETTER, profit, rests
    if sign * best <= sign * profit:
        return profit, AT_LIMIT, profit, rests
    return np.nan, AT_OPEN, np.nan, False


@kernel
def session_end(closes: IntArray, time: int) -> int:
    """When the session ends that a time is in, or else the next one, ns; -1 where none is known."""
    number = np.searchsorted(closes, time, side="right")
    return closes[number] if number < len(closes) else -1


@kernel
def lots(amount: float, size: float, lot: int, enough: int) -> int:
    """How many whole lots there are in an amount of units, in `UNIT`; -1 where the rounding of money may say another number.

    Parameters
    ----------
    amount : units that may be allowed.
    size : the largest of the numbers that it was computed from, units.
    lot, enough : in `UNIT`; from `enough` on, with some to spare, any number will do.
    """
    count = amount * UNITS_OF_ONE / lot
    if count > enough / lot + 2:
        return enough + 2 * lot
    whole = np.floor(count)
    blur = size * UNITS_OF_ONE / lot * 1e-13 + 1e-9
    if (whole >= 1 and count - whole < blur) or (whole >= 0 and whole + 1 - count < blur):
        return -1
    return max(0, int(whole)) * lot


@kernel
def book(
    fills: IntArray,
    fill_prices: FloatArray,
    filled: int,
    fees: FloatArray,
    multiplier: float,
    bar: int,
    row: int,
    strategy: int,
    symbol: int,
    is_buy: bool,
    units: int,
    price: float,
    basis: int,
    leg: float,
    is_maker: bool,
) -> tuple[float, float]:
    """Write a fill down as row `filled` of the tables of fills.

    Returns
    -------
    What it takes from the cash, its fee included, and the fee.
    """
    quantity = units * UNIT
    notional = price * quantity * multiplier
    fee = fee_of(fees, is_buy, notional, quantity, is_maker)
    fill, prices = fills[filled], fill_prices[filled]
    fill[0], fill[1], fill[2], fill[3] = bar, row, strategy, symbol
    fill[4], fill[5], fill[6], fill[7] = int(is_buy), units, basis, int(is_maker)
    prices[0], prices[1], prices[2] = price, fee, leg
    return (notional if is_buy else -notional) + fee, fee


@kernel
def walk(
    bars: IntArray,
    prices: FloatArray,
    rows: IntArray,
    row_prices: FloatArray,
    targets: FloatArray,
    whole: IntArray,
    protection: FloatArray,
    terms: IntArray,
    costs: FloatArray,
    fees: FloatArray,
    calendars: IntArray,
    closes: IntArray,
    strategies: int,
    cash: float,
    collar: float,
    band: float,
    allow_shorts: bool,
    rules: FloatArray,
    is_shown: NDArray[np.bool_],
    fills: IntArray,
    fill_prices: FloatArray,
    counts: IntArray,
    equity: FloatArray,
) -> tuple[int, float, float]:
    """Trade targets on bars.

    Parameters
    ----------
    bars : shape (bars, 6): position, symbol, start, loop's time at the position, bits, end.
    prices : shape (bars, 4): open, high, low, close.
    rows : shape (rows, 5): position, strategy, symbol, loop's time, bits; in the order in which strategies are shown them.
    row_prices : shape (rows, 3): close, what a unit costs at least, and the closes' median before.
    targets : shape (rows,), units; NaN is none.
    whole : shape (rows, 2), the same rounded down and up, in `UNIT`.
    protection : shape (rows, 2): stop loss and take-profit of what a row opens, NaN for none; or of no rows.
    terms : shape (symbols, 4): least order and step in `UNIT`, whether orders are for the day, number of the calendar or -1.
    costs : shape (symbols, 5): multiplier, margin, what prices are multiplied by in a sale and in a purchase, tick.
    fees : shape (symbols, fees, 7): as `fee_of` has them.
    calendars, closes : of calendar n the ends of sessions, ns, are ``closes[calendars[n]:calendars[n + 1]]``.
    strategies : how many there are.
    cash : before the first bar.
    collar, band : how much worse than the reference price an order is judged, and how much farther it may be filled, shares of it.
    allow_shorts : whether a position may fall below zero.
    rules : shape (strategies, rules, 3), in the order in which they are asked: kind (`KINDS`), limit (NaN for none), and the step in
        `UNIT`.
    is_shown : shape (rows,), whether the strategy is shown the row; of no rows where no rule asks for equity.
    fills, fill_prices : filled, shape (most, 8) by `FILLS` and (most, 3): price, fee, and the price of the leg that it is of.
    counts : filled, shape (5,), by `COUNTS`.
    equity : filled with the equity after each bar, shape (bars,); of no bars where that is not wanted.

    Returns
    -------
    Why it stopped (`STOPS`), and where it did not, the equity at the end and the fees that were paid.
    """
    symbols = len(terms)
    views = strategies * symbols
    position = np.zeros(views, np.int64)
    buying = np.zeros(views, np.int64)
    selling = np.zeros(views, np.int64)
    net = np.zeros(symbols, np.int64)
    all_buying = np.zeros(symbols, np.int64)
    all_selling = np.zeros(symbols, np.int64)
    mark = np.zeros(symbols)
    stop = np.full(views, np.nan)
    profit = np.full(views, np.nan)
    rests = np.zeros(views, np.bool_)
    protects = np.zeros(views, np.int64)
    of_row = np.zeros(views, np.int64)
    last_order = np.full(views, -1, np.int64)
    newest = np.full(symbols, np.nan)
    recent = np.full(symbols, np.nan)
    protected = np.zeros(symbols, np.int64)
    minute = np.full(strategies, -1, np.int64)
    decided = np.zeros(strategies, np.int64)
    most = 8 * views + 64
    orders = np.zeros((most, 11), np.int64)
    order_prices = np.zeros((most, 4))
    head = np.full(symbols, -1, np.int64)
    tail = np.full(symbols, -1, np.int64)
    free = np.arange(most)
    used = 0
    reserved, paid_fees = 0.0, 0.0
    has_margins = False
    for symbol in range(symbols):
        has_margins |= costs[symbol, 1] != 1.0
    filled = 0
    bar, n_bars = 0, len(bars)
    counts[:] = 0
    wants_equity = len(equity) > 0
    worth = 0.0

    for row in range(len(rows) + 1):
        until = rows[row, 0] if row < len(rows) else NEVER
        while bar < n_bars and bars[bar, 0] <= until:
            symbol, begin, now, bits = bars[bar, 1], bars[bar, 2], bars[bar, 3], bars[bar, 4]
            opened, high, low, close = prices[bar, 0], prices[bar, 1], prices[bar, 2], prices[bar, 3]
            multiplier = costs[symbol, 0]
            is_met = bits & IS_NEWS and bits & IS_OPEN
            if is_met and protected[symbol] > 0:
                # The stops of positions, then their take-profits.
                for strategy in range(strategies):
                    view = strategy * symbols + symbol
                    if protects[view] == 0:
                        continue
                    is_buy = position[view] < 0
                    sign = 1.0 if is_buy else -1.0
                    slip = costs[symbol, 3] if is_buy else costs[symbol, 2]
                    worst, best = (high, low) if is_buy else (low, high)
                    price, basis, leg, is_maker = leg_price(
                        sign, opened, worst, best, stop[view], profit[view], slip, rests[view]
                    )
                    rests[view] = True
                    if price != price:
                        continue
                    units = protects[view]
                    if sign * net[symbol] > -units:
                        return SHARED, 0.0, 0.0
                    if filled == len(fills):
                        return FULL, 0.0, 0.0
                    cost, fee = book(
                        fills,
                        fill_prices,
                        filled,
                        fees[symbol],
                        multiplier,
                        bar,
                        of_row[view],
                        strategy,
                        symbol,
                        is_buy,
                        units,
                        price,
                        basis,
                        leg,
                        is_maker,
                    )
                    cash -= cost
                    paid_fees += fee
                    filled += 1
                    position[view] = 0
                    net[symbol] += units if is_buy else -units
                    protects[view] = 0
                    protected[symbol] -= 1
            order = head[symbol]
            before = -1
            while order >= 0:
                following, ends, until_ = orders[order, NEXT], orders[order, ENDS], orders[order, UNTIL]
                is_seen = begin >= orders[order, SINCE] and bits & IS_NEWS
                is_fresh = orders[order, IS_FRESH_ORDER] != 0
                is_expired = now >= until_ or (is_seen and is_fresh and begin >= ends)
                if orders[order, FIRST] >= 0 or not (is_expired or (is_seen and is_met and begin < ends)):
                    before, order = order, following
                    continue
                view, units = orders[order, VIEW], orders[order, UNITS]
                is_buy = orders[order, IS_BUY] != 0
                sign = 1.0 if is_buy else -1.0
                if not is_expired:
                    price = opened * (costs[symbol, 3] if is_buy else costs[symbol, 2])
                    bound = order_prices[order, BOUND]
                    if price > bound * (1 + ROOM):  # it waits for a better one
                        if is_fresh:
                            orders[order, IS_FRESH_ORDER] = 0
                            if terms[symbol, 2]:
                                if ends == NEVER:
                                    ends = orders[order, ENDS] = begin // DAY * DAY + DAY
                                orders[order, UNTIL] = ends + bars[bar, 5] - begin
                        before, order = order, following
                        continue
                    if price > bound * (1 - ROOM) - costs[symbol, 4]:
                        return TIGHT, 0.0, 0.0
                    if orders[order, IS_EXIT] and units > min(-sign * net[symbol], -sign * position[view]):
                        return SHARED, 0.0, 0.0
                    if filled == len(fills):
                        return FULL, 0.0, 0.0
                    cost, fee = book(
                        fills,
                        fill_prices,
                        filled,
                        fees[symbol],
                        multiplier,
                        bar,
                        orders[order, ROW],
                        view // symbols,
                        symbol,
                        is_buy,
                        units,
                        price,
                        AT_OPEN,
                        np.nan,
                        False,
                    )
                    cash -= cost
                    paid_fees += fee
                    filled += 1
                    if net[symbol] == 0:
                        mark[symbol] = price
                    position[view] += units if is_buy else -units
                    net[symbol] += units if is_buy else -units
                else:
                    counts[N_EXPIRED] += 1
                # It is done: out of the sums, and what waits for it may leave, or never will.
                waits = following
                while waits >= 0 and orders[waits, FIRST] != order:
                    waits = orders[waits, NEXT]
                if waits >= 0 and not is_expired:
                    orders[waits, FIRST] = -1
                    orders[waits, SINCE] = now
                    if terms[symbol, 2] and terms[symbol, 3] >= 0:
                        calendar = terms[symbol, 3]
                        ends = session_end(closes[calendars[calendar] : calendars[calendar + 1]], now)
                        if ends < 0:
                            return SHUT, 0.0, 0.0
                        orders[waits, ENDS], orders[waits, UNTIL] = ends, ends + DAY
                for number in (order, waits if is_expired else -1):
                    if number < 0:
                        continue
                    size = orders[number, UNITS]
                    if is_buy:
                        buying[view] -= size
                        all_buying[symbol] -= size
                        reserved -= order_prices[number, RESERVE]
                    else:
                        selling[view] -= size
                        all_selling[symbol] -= size
                    earlier = -1
                    each = head[symbol]
                    while each != number:
                        earlier, each = each, orders[each, NEXT]
                    if earlier < 0:
                        head[symbol] = orders[number, NEXT]
                    else:
                        orders[earlier, NEXT] = orders[number, NEXT]
                    if tail[symbol] == number:
                        tail[symbol] = earlier
                    used -= 1
                    free[used] = number
                if used == 0:
                    reserved = 0.0
                has_bracket = order_prices[order, STOP] == order_prices[order, STOP] or (
                    order_prices[order, PROFIT] == order_prices[order, PROFIT]
                )
                if not is_expired and not orders[order, IS_EXIT] and has_bracket:
                    # Its legs meet the rest of the bar, which is all of it: it was filled at the open.
                    if sign * position[view] != units or protects[view] or buying[view] or selling[view]:
                        return UNEVEN, 0.0, 0.0
                    elsewhere = (all_selling if is_buy else all_buying)[symbol]
                    for other in range(strategies):
                        elsewhere += protects[other * symbols + symbol]
                    if sign * net[symbol] - elsewhere < units:
                        return SHARED, 0.0, 0.0
                    protects[view] = units
                    of_row[view] = orders[order, ROW]
                    protected[symbol] += 1
                    stop[view], profit[view] = order_prices[order, STOP], order_prices[order, PROFIT]
                    counts[N_ORDERS] += int(stop[view] == stop[view]) + int(profit[view] == profit[view])
                    is_buy, sign = not is_buy, -sign
                    slip = costs[symbol, 3] if is_buy else costs[symbol, 2]
                    worst, best = (high, low) if is_buy else (low, high)
                    rests[view] = sign * opened > sign * profit[view]
                    price, basis, leg, is_maker = leg_price(
                        sign, opened, worst, best, stop[view], profit[view], slip, rests[view]
                    )
                    rests[view] = True
                    if price == price:
                        if filled == len(fills):
                            return FULL, 0.0, 0.0
                        cost, fee = book(
                            fills,
                            fill_prices,
                            filled,
                            fees[symbol],
                            multiplier,
                            bar,
                            orders[order, ROW],
                            view // symbols,
                            symbol,
                            is_buy,
                            units,
                            price,
                            basis,
                            leg,
                            is_maker,
                        )
                        cash -= cost
                        paid_fees += fee
                        filled += 1
                        position[view] = 0
                        net[symbol] += units if is_buy else -units
                        protects[view] = 0
                        protected[symbol] -= 1
                order = head[symbol] if before < 0 else orders[before, NEXT]
            if close > 0:
                mark[symbol] = close
            if wants_equity:
                worth = 0.0
                for each in range(symbols):
                    worth += net[each] * UNIT * mark[each] * costs[each, 0]
                equity[bar] = cash + worth
            bar += 1
        if row == len(rows):
            break

        target = targets[row]
        if len(is_shown):
            recent[rows[row, 2]] = row_prices[row, 2]
            if is_shown[row]:
                newest[rows[row, 2]] = row_prices[row, 0]
        if target != target:
            continue
        strategy, symbol, now, bits = rows[row, 1], rows[row, 2], rows[row, 3], rows[row, 4]
        view = strategy * symbols + symbol
        held, least, step = position[view], terms[symbol, 0], terms[symbol, 1]
        is_close = target == 0.0
        if is_close:
            if held == 0 or abs(held) < least:
                continue
            is_buy = held < 0
            opposing = 0
            each = head[symbol]
            while each >= 0:
                if orders[each, VIEW] == view and not orders[each, IS_EXIT] and (orders[each, IS_BUY] != 0) == is_buy:
                    opposing += orders[each, UNITS]
                each = orders[each, NEXT]
            missing = abs(held) - (buying[view] if is_buy else selling[view]) + opposing
            if missing < least:
                continue
            if opposing:
                return OPPOSED, 0.0, 0.0
            missing = abs(held)
        else:
            is_buy = whole[row, 1] > held
            missing = whole[row, 0] - held - buying[view] if is_buy else held - whole[row, 1] - selling[view]
            if missing < least:
                continue
        counts[N_DECISIONS] += 1
        if now // 60_000_000_000 != minute[strategy]:
            minute[strategy], decided[strategy] = now // 60_000_000_000, 0
        decided[strategy] += 1
        if decided[strategy] > MOST_DECISIONS:
            return BUSY, 0.0, 0.0
        proposed = missing // step * step
        if proposed == 0:
            proposed = missing
        if not bits & HAS_PRICE or not bits & IS_FRESH or proposed < least:
            counts[N_DENIED] += 1
            continue
        sign = 1 if is_buy else -1
        close, reference = row_prices[row, 0], row_prices[row, 1]
        stop_loss, take_profit = np.nan, np.nan
        if len(protection) and not is_close and (target > 0) == is_buy:
            stop_loss, take_profit = protection[row, 0], protection[row, 1]
            is_wrong = stop_loss <= 0 or take_profit <= 0
            is_wrong |= sign * stop_loss >= sign * close or sign * take_profit <= sign * close
            if is_wrong:
                counts[N_DENIED] += 1
                continue
        # What the order can close, and what is left of it by the kernel's gates.
        each = head[symbol]
        while each >= 0:
            if now >= orders[each, UNTIL]:
                return OVER, 0.0, 0.0
            each = orders[each, NEXT]
        on_their_way = (all_buying if is_buy else all_selling)[symbol]
        if protected[symbol] and strategies > 1:
            for other in range(strategies):
                its = other * symbols + symbol
                if other != strategy and protects[its] and (position[its] < 0) == is_buy:
                    on_their_way += protects[its]
        own = max(0, -sign * held - (buying[view] if is_buy else selling[view]))
        closable = max(0, min(own, -sign * net[symbol] - on_their_way))
        left = proposed
        if not bits & IS_SANE and left > closable:
            left = closable
        if is_close and left > own:
            left = own
        whole_left = left // step * step
        left = whole_left or left
        if left == 0:
            counts[N_DENIED] += 1
            continue
        if len(protection) and left > closable:
            for each in range(strategies * symbols):
                if protects[each] and position[each] < 0:
                    return HELD, 0.0, 0.0
        # What the rules leave of it, and then the kernel's last check.
        multiplier, margin = costs[symbol, 0], costs[symbol, 1]
        power, bound = cash - reserved, np.inf
        if has_margins:
            for each in range(symbols):
                if costs[each, 1] != 1.0:
                    value = net[each] * UNIT * mark[each] * costs[each, 0]
                    power += value - abs(value) * costs[each, 1]
        worst = reference * (1 + collar)
        for number in range(rules.shape[1]):
            kind, limit, lot = int(rules[strategy, number, 0]), rules[strategy, number, 1], step
            lot = max(lot, int(rules[strategy, number, 2]))
            allowed = left
            if kind == NOTIONAL and limit == limit:
                most_units = limit / (worst * multiplier)
                allowed = lots(most_units, most_units, lot, left)
                if min(allowed, left) > 0:
                    bound = min(bound, limit / (min(allowed, left) * UNIT * multiplier))
            elif kind == POSITION_SHARE and limit == limit:
                equity_now, worth_now = cash, cash
                for each in range(symbols):
                    if net[each]:
                        low, high = min(newest[each], recent[each]), max(newest[each], recent[each])
                        if recent[each] != recent[each]:
                            low = high = newest[each]
                        equity_now += net[each] * UNIT * mark[each] * costs[each, 0]
                        worth_now += net[each] * UNIT * (low if net[each] > 0 else high) * costs[each, 0]
                most_money = limit * min(equity_now, worth_now)
                taken = sign * net[symbol] + (all_buying if is_buy else all_selling)[symbol]
                most_units = most_money / (worst * multiplier)
                allowed = lots(most_units - taken * UNIT, max(abs(most_units), abs(taken * UNIT)), lot, left)
                if taken + min(allowed, left) > 0 and most_money > 0:
                    bound = min(bound, most_money / ((taken + min(allowed, left)) * UNIT * multiplier))
            elif kind == BUYING_POWER:
                most_units = power / (worst * multiplier * margin * (1 + limit))
                allowed = lots(most_units, abs(most_units), lot, left)
                if allowed >= 0:
                    allowed += closable
                    opened = min(allowed, left) - closable
                    if opened > 0 and power > 0:
                        bound = min(bound, power / (1 + limit) / (opened * UNIT * multiplier * margin))
            elif kind == PAUSE:
                if last_order[view] >= 0 and now - last_order[view] < int(limit):
                    allowed = 0
            elif kind == NO_SHORTS and not is_buy and not allow_shorts:
                allowed = 0
            if allowed < 0:
                return TIGHT, 0.0, 0.0
            allowed = max(allowed, closable)
            if left > allowed:
                whole_left = allowed // step * step
                left = whole_left or allowed
            if left == 0:
                break
        if left > closable and not is_buy and not allow_shorts:
            left = closable
        if left > closable:
            most_units = power / (worst * multiplier * margin)
            affordable = lots(most_units, abs(most_units), SMALLEST_CUT, left - closable)
            if affordable < 0:
                return TIGHT, 0.0, 0.0
            left = min(left, closable + affordable)
        if left != proposed:
            whole_left = left // step * step
            left = whole_left or left
            if left < least:
                counts[N_DENIED] += 1
                continue
        if bound < np.inf:
            bound = min(bound, worst * (1 + band))
        last_order[view] = now
        # One order that closes, and one that opens the rest once the first has filled.
        closing = min(left, closable // step * step if closable // step else closable)
        opening = left - closing
        if closing and opening and min(closing, opening) < least:
            if closing < opening:
                closing = 0
            else:
                opening = 0
        if protects[view]:
            if (opening and not closing) or (closing and closing != abs(held)):
                return UNEVEN, 0.0, 0.0
            protects[view] = 0
            protected[symbol] -= 1
        ends = NEVER
        if terms[symbol, 3] >= 0:
            calendar = terms[symbol, 3]
            found = session_end(closes[calendars[calendar] : calendars[calendar + 1]], now)
            if found < 0:
                return SHUT, 0.0, 0.0
            if terms[symbol, 2]:
                ends = found
        first = -1
        for part in range(2):
            units = closing if part == 0 else opening
            if units == 0:
                continue
            if used == most:
                return CROWDED, 0.0, 0.0
            order = free[used]
            used += 1
            is_entry = part == 1
            orders[order, VIEW], orders[order, UNITS] = view, units
            orders[order, IS_BUY], orders[order, IS_EXIT] = int(is_buy), int(not is_entry)
            orders[order, SINCE], orders[order, ENDS] = now, ends
            orders[order, UNTIL], orders[order, IS_FRESH_ORDER] = NEVER if ends == NEVER else ends + DAY, 1
            orders[order, FIRST], orders[order, ROW], orders[order, NEXT] = first, row, -1
            reserve = reference * units * UNIT * multiplier * margin if is_buy else 0.0
            order_prices[order, BOUND], order_prices[order, RESERVE] = np.inf, reserve
            if is_entry and is_buy:
                order_prices[order, BOUND] = min(bound, power / (units * UNIT * multiplier * margin))
            order_prices[order, STOP] = stop_loss if is_entry else np.nan
            order_prices[order, PROFIT] = take_profit if is_entry else np.nan
            reserved += reserve
            if is_buy:
                buying[view] += units
                all_buying[symbol] += units
            else:
                selling[view] += units
                all_selling[symbol] += units
            if tail[symbol] < 0:
                head[symbol] = order
            else:
                orders[tail[symbol], NEXT] = order
            tail[symbol] = order
            first = order
            counts[N_ORDERS] += 1

    counts[N_FILLS] = filled
    worth = 0.0
    for symbol in range(symbols):
        worth += net[symbol] * UNIT * mark[symbol] * costs[symbol, 0]
    return DONE, cash + worth, paid_fees
