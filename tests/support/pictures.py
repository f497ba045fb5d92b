"""Small pictures of indicators, as SVG: bars of the demo's tape, and what an indicator gives of them."""

from collections.abc import Mapping

import numpy as np
import pyarrow.parquet as pq

from support.docs import ROOT

TAPE = ROOT / "catalog" / "tapes" / "es_20130901_20130903.parquet"
MINUTES = 10
SHOWN = 120
"""Bars in a picture, the last ones."""
STEP, HEIGHT, MARGIN = 10, 240, 15
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")


def tape_bars() -> dict[str, np.ndarray]:
    """The columns of the tape's bars, in which something was traded."""
    trades = pq.read_table(TAPE, columns=["event_ts", "price", "size"])
    ts, price, size = (trades[name].to_numpy() for name in trades.column_names)
    bar = ts.astype("datetime64[m]").astype(np.int64) // MINUTES
    first = np.flatnonzero(np.diff(bar, prepend=-1))
    last = np.append(first[1:], len(bar)) - 1
    volume = np.add.reduceat(size, first)
    return {
        "open": price[first],
        "high": np.maximum.reduceat(price, first),
        "low": np.minimum.reduceat(price, first),
        "close": price[last],
        "volume": volume,
        "vwap": np.add.reduceat(price * size, first) / volume,
        "trade_count": last - first + 1.0,
    }


def picture(bars: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> str:
    """A picture of the last bars: what is near their prices over these, and all else in a panel for each scale below."""
    low, high = (bars[name][-SHOWN:] for name in ("low", "high"))
    shown = {name: values[-SHOWN:] for name, values in outputs.items()}
    reach = high.max() - low.min()
    panels: list[dict[str, np.ndarray]] = [{}]
    for name, values in shown.items():
        is_price = np.nanmin(values) > low.min() - reach and np.nanmax(values) < high.max() + reach
        panel = next((each for each in panels[1:] if _is_alike(values, each.values())), None)
        if is_price:
            panels[0][name] = values
        elif panel is None:
            panels.append({name: values})
        else:
            panel[name] = values
    colors = dict(zip(shown, COLORS * 2, strict=False))
    parts, top = [], 0
    for number, panel in enumerate(panels):
        parts += _panel(panel, colors, top, (low, high) if number == 0 else None, named=len(shown) > 1)
        top += HEIGHT if number == 0 else HEIGHT // 2
    width = SHOWN * STEP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" font-family="sans-serif" font-size="24">'
        f'<rect width="{width}" height="{top}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _is_alike(values, others):
    """Whether the largest values differ by less than a factor of 5."""
    sizes = [np.nanmax(abs(each)) for each in (values, *others)]
    return max(sizes) < 5 * min(sizes)


def _panel(lines, colors, top, bars, *, named):
    of_bars = bars or ()
    everything = np.concatenate([*of_bars, *lines.values()])
    least, most = np.nanmin(everything), np.nanmax(everything)
    height = (HEIGHT if bars else HEIGHT // 2) - 2 * MARGIN

    def y(values):
        share = (most - values) / (most - least) if most > least else np.full(len(values), 0.5)
        return top + MARGIN + share * height

    if bars:
        low, high = (np.rint(y(values)) for values in bars)
        strokes = "".join(f"M{x * STEP + 5} {a:.0f}V{b:.0f}" for x, (a, b) in enumerate(zip(high, low, strict=True)))
        yield f'<path d="{strokes}" stroke="#bbb" stroke-width="5" fill="none"/>'
    else:
        yield f'<path d="M0 {top}H{SHOWN * STEP}" stroke="#ddd" stroke-width="2"/>'
    for number, (name, values) in enumerate(lines.items()):
        yield f'<path d="{_path(y(values))}" stroke="{colors[name]}" stroke-width="3" fill="none"/>'
        if named:
            yield f'<text x="8" y="{top + 28 * (number + 1)}" fill="{colors[name]}">{name}</text>'


def _path(ys):
    """A line through known points, in whole units, each relative to the one before."""
    parts, last = [], None
    for number, y in enumerate(ys):
        if np.isnan(y):
            last = None
            continue
        point = round(y)
        parts.append(f"M{number * STEP + 5} {point}" if last is None else f"l{STEP} {point - last}")
        last = point
    return "".join(parts)
