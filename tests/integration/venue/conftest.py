"""`torghut run` as a process of its own that trades at a fake Alpaca, and does what a test says.

What the strategy of these tests does at a bar is in the bar's close, see `WORDS`. Bars are of the present: a bar is a
second after the one before, or now.
"""

import json
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from torghut_testing.alpaca import FakeAlpaca, FakeVenue, Refusal

from support.processes import Running
from support.waiting import PATIENCE, until
from torghut_core.audit import SqlAuditStore

LAUNCHER = Path(__file__).with_name("launcher.py")
SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD", "LTC/USD", "DOGE/USD", "AAVE/USD")

WORDS = ("nothing", "buy", "close", "bid", "ask", "sleep", "spin", "fail", "flip", "guard", "raise")
"""What a bar can say: its close is 100 dollars and so many cents."""

TOLD = '''
"""Does what the close of a bar says."""
import os
import time
from decimal import Decimal

from torghut_core import OrderType, Strategy, TimeInForce, hookimpl, param

WORDS = %r


class Told(Strategy):
    class Params(Strategy.Params):
        quantity: int = param(1, gt=0, help="units per order")
        seconds: float = param(5, gt=0, help="how long `sleep` and `spin` take")

    def on_signal(self, signal, context):
        word = WORDS[round(context.price * 100) - 10_000]
        terms = {"because": word, "time_in_force": TimeInForce.GTC}
        limit = {"order_type": OrderType.LIMIT, **terms}
        if word == "flip":
            word = "close" if context.position.quantity else "buy"
        if word == "buy":
            return context.buy(self.params.quantity, **terms)
        if word == "guard":
            return context.buy(self.params.quantity, stop_loss=Decimal(50), **terms)
        if word == "raise":
            stops = [each for each in context.orders if each.intent.stop_price is not None]
            return [context.replace(each, because=word, stop_price=each.intent.stop_price + 1) for each in stops]
        if word == "close":
            return context.close(**terms)
        if word == "bid":
            return context.buy(self.params.quantity, limit_price=Decimal(50), **limit)
        if word == "ask" and context.is_long:
            return context.sell(context.position.quantity, limit_price=Decimal(200), **limit)
        if word == "sleep":
            time.sleep(self.params.seconds)
        if word == "spin":
            end = time.monotonic() + self.params.seconds
            while time.monotonic() < end:
                pass
        if word == "fail":
            raise RuntimeError(f"this plugin tells a key: {os.environ['ALPACA_SECRET_KEY']}")
        return None


@hookimpl
def register_strategies(register):
    register("told", Told)
''' % (WORDS,)  # noqa: UP031 - the text has braces


class Trader(Running):
    """A catalog, a tape, a plugin and a state directory, and the process that trades on them at `fake`.

    `past`: how long ago its bars are, seconds, so that many of them, one for each second, do not reach the present.
    """

    def __init__(self, folder, fake, past=0, **env):
        self.fake = fake
        self.tape = folder / "tape.csv"
        self.catalog = folder / "catalog"
        self.plugins = folder / "plugins"
        usual = {
            "TRADING_ENABLED": "true",
            "TRADING_RECONCILE_MS": "200",
            "TORGHUT_PLUGIN_PATH": str(self.plugins),
            "ALPACA_KEY_ID": fake.key,
            "ALPACA_SECRET_KEY": fake.secret,
        }
        super().__init__(folder, folder / "state", env=usual | env)
        self.fed = self.told = 0
        self.past = past
        self.by_hand = Counter()
        self.foreign = set()
        for directory in (self.catalog, self.plugins):
            directory.mkdir()
        self.tape.write_text("symbol,event_ts,open,high,low,close,volume\n")
        (self.plugins / "told.py").write_text(TOLD)
        self.write()
        self.say()

    # What is on disk.

    def write(self, broker=None, source=None, **params):
        """The catalog: `params` of the strategy, and what else is not as usual."""
        source = {"paths": [str(self.tape)], "bar_step": "1Sec", "follow": True, **(source or {})}
        broker = {"url": self.fake.url, **(broker or {})}
        entry = {"name": "told", "use": "told", "base_timeframe": "1Sec", "symbols": list(SYMBOLS), "params": params}
        text = {
            "version": 1,
            "pipelines": {
                "trading": {
                    "source": {"use": "replay", "params": source},
                    "stages": [{"use": "indicators", "params": {}}],
                    "broker": {"use": "alpaca", "params": broker},
                }
            },
            "strategies": [entry],
        }
        (self.catalog / "trading.yaml").write_text(json.dumps(text))

    def say(self, word="nothing", symbols=("BTC/USD",), times=1):
        """Append bars that say something to the tape."""
        close = f"{100 + WORDS.index(word) / 100:.2f}"
        with self.tape.open("a") as tape:
            for _ in range(times):
                self.told = max(self.told + 1, int(time.time()) - 1 - self.past)
                at = datetime.fromtimestamp(self.told, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                tape.write("".join(f"{symbol},{at},100,101,99,{close},10\n" for symbol in symbols))
        self.fed += times * len(symbols)

    # The process.

    def start(self, *, launcher=False):
        """Start it, and do not wait."""
        arguments = ("-v", "run", "--catalog", self.catalog, "--state", self.state, "--port", 0)
        return super().start(*arguments, script=LAUNCHER if launcher else None)

    def listens(self):
        """Wait until its admin API, or its probes, listen; False where it ended before."""
        if not super().listens():
            return False
        self.token = self.env.get("TORGHUT_TOKEN") or json.loads((self.state / "admin.json").read_text())["token"]
        return True

    def begin(self, *, launcher=False):
        """Start it, and wait until it trades what is on the tape, and hears the venue."""
        assert self.start(launcher=launcher).listens(), self.log
        self.caught_up()
        self.until(lambda: self.fake.listeners)
        return self

    def caught_up(self):
        """Wait until it has traded the tape: its decisions are in its books, and perhaps not sent yet."""
        end = datetime.fromtimestamp(self.told + 1, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        self.until(lambda: self.metric("events_total") == self.fed and (self.status["now"] or "") >= end)

    def backlog(self):
        """How many bars of the tape it has not seen yet."""
        return self.fed - (self.metric("events_total") or 0)

    def trade(self, word, symbols=("BTC/USD",), times=1):
        """Write a signal to the tape, and wait until it was traded."""
        self.say(word, symbols, times)
        self.caught_up()

    def release(self):
        """`torghut unkill`, and wait until the kernel has applied it: it reads the database once a second."""
        self.output("unkill", "--reason", "fine")
        self.until(lambda: self.status["control"]["state"] == "running")
        time.sleep(0.2)  # the loop reads the control twenty times a second, and does not report when it has

    @contextmanager
    def busy(self, rows=100):
        """Let it decide at every bar, with always so many bars to go."""
        over = threading.Event()

        def feed():
            while not over.wait(0.01) and self.process.poll() is None:
                if self.backlog() < rows:
                    self.say("flip", times=rows)

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        try:
            yield
        finally:
            over.set()
            feeder.join()

    # The admin API.

    @property
    def status(self):
        """How trading stands."""
        return self.get("/trading/status")

    @property
    def books(self):
        """What is held in each symbol, by the kernel's books."""
        held = {}
        for each in self.status["positions"]:
            held[each["symbol"]] = held.get(each["symbol"], 0) + Decimal(each["quantity"])
        return held

    def until(self, is_so, seconds=PATIENCE):
        """Wait until something is true while it runs; what it was then."""
        return super().until(is_so, lambda: self.status if self.process else "", seconds)

    # What is written down, and what the venue has.

    @property
    def database(self):
        """The audit database, as `SqlAuditStore` takes it."""
        return self.env.get("DB_DSN") or self.state / "audit.db"

    def rows(self, table, **where):
        """Rows of its audit database; also while it runs."""
        with closing(SqlAuditStore(self.database)) as audit:
            return audit.rows(table, **where)

    def trade_by_hand(self, symbol, quantity):
        """A person buys at the venue, or sells (below zero), what can be had at once, if it can."""
        with suppress(Refusal):
            order = self.fake.venue.place(symbol, "buy" if quantity > 0 else "sell", abs(quantity))
            self.foreign.add(order["client_order_id"])
            if order["status"] != "filled":
                order = self.fake.venue.cancel(order["id"])
            self.by_hand[symbol] += Decimal(order["filled_qty"]).copy_sign(quantity)

    @property
    def outside(self):
        """What a person holds at the venue beside the books, by symbol: bought by hand, and not accepted."""
        return {symbol: quantity for symbol, quantity in self.by_hand.items() if quantity}

    @property
    def findings(self):
        """What `audit verify` finds."""
        with closing(SqlAuditStore(self.database)) as audit:
            return audit.verify()

    @property
    def sent(self):
        """The requests for orders that reached the venue."""
        return [each for each in list(self.fake.requests) if each.method == "POST" and each.path == "/v2/orders"]

    @property
    def working(self):
        """Orders that work at the venue, by client order id."""
        done = ("filled", "canceled", "expired", "rejected", "replaced")
        return {each["client_order_id"]: each for each in self.fake.venue.orders() if each["status"] not in done}

    @property
    def held(self):
        """What is held in each symbol, at the venue."""
        names = {symbol.replace("/", ""): symbol for symbol in SYMBOLS}
        return {names[each["symbol"]]: Decimal(each["qty"]) for each in self.fake.venue.positions()}

    def disagreements(self):
        """What differs between what is written down and the venue; empty where all is well and nothing is open."""
        status = self.status
        seen = status["reconciliation"]
        told = [f"{name}: {seen[name]}" for name in ("unresolved", "problem", "adopted") if seen[name]]
        if seen["differences"].keys() != self.outside.keys():
            told.append(f"{seen['differences']}, and by hand {self.outside}")
        if status["orders_working"] != len(self.working):
            told.append(f"{status['orders_working']} orders work here, {len(self.working)} at the venue")
        both = {*self.books, *self.held, *self.outside}
        books, held = self.books, self.held
        if any(books.get(each, 0) + self.outside.get(each, 0) != held.get(each, 0) for each in both):
            told.append(f"{books} held here, {self.outside} by hand, {held} at the venue")
        return told or self._differing_orders()

    def _differing_orders(self):
        told = []
        theirs = {each["client_order_id"]: each for each in self.fake.venue.orders()}
        theirs = {number: order for number, order in theirs.items() if number not in self.foreign}
        ours = {row["client_order_id"]: row for row in self.rows("executions")}
        fills = {}
        for row in self.rows("execution_events"):
            if row["fill_id"] is not None:
                fills.setdefault(row["client_order_id"], []).append(row["quantity"])
        told += [f"{number} is at the venue, and not written down" for number in theirs.keys() - ours.keys()]
        for number, row in ours.items():
            order = theirs.get(number)
            if order is None:
                never_left = row["state"] == "canceled" and row["reason"].startswith(("not sent", "taken back"))
                if not (never_left or row["state"] == "rejected") or fills.get(number):
                    told.append(f"{number} is {row['state']} ({row['reason']}), and not at the venue")
                continue
            filled = Decimal(order["filled_qty"])
            if row["filled_quantity"] != filled or sum(fills.get(number, []), Decimal(0)) != filled:
                told.append(
                    f"{number}: {filled} filled at the venue, {row['filled_quantity']} here, {fills.get(number)}"
                )
            if row["state"] != order["status"] and not {row["state"], order["status"]} <= {"accepted", "new"}:
                told.append(f"{number} is {row['state']} here, {order['status']} at the venue")
        rows = [(row["strategy_id"], row["symbol"], row["event_ts"]) for row in self.rows("trade_decisions")]
        told += [f"two decisions of one bar: {row}" for row in set(rows) if rows.count(row) > 1 and row[2] % 10**9 == 0]
        return told

    def agrees(self):
        """Wait until what is written down and the venue agree."""
        until(lambda: not self.disagreements(), lambda: "\n".join([*self.disagreements(), self.log[-6000:]]))
        for defect in ("report refused", "not written down", "given up", "Traceback"):
            assert defect not in self.log, self.log


@contextmanager
def serving(**options):
    """A fake Alpaca with a price for everything that is traded here."""
    with FakeAlpaca(FakeVenue(cash=1_000_000), **options) as fake:
        for symbol in SYMBOLS:
            fake.venue.set_price(symbol, "100")
        yield fake


@pytest.fixture
def serve():
    """Makes venues; see `serving`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(serving(**options))


@pytest.fixture
def fake(serve):
    """A venue."""
    return serve()


@pytest.fixture
def make(tmp_path):
    """Makes traders, and ends them."""
    made = []

    def trader(fake, name="trader", **env):
        folder = tmp_path / name
        folder.mkdir()
        made.append(Trader(folder, fake, **env))
        return made[-1]

    yield trader
    for each in made:
        each.kill()


@pytest.fixture
def trader(make, fake):
    """A trader, not started."""
    return make(fake)


@pytest.fixture
def dsn(make_database):
    """The DSN of an audit database of the test's own, without rows."""
    return make_database()
