"""Indicators: what a strategy may have computed of each bar of a symbol, by name."""

from __future__ import annotations

from typing import Any, ClassVar

from torghut_core.ports.plugin import Plugin


class Indicator(Plugin):
    """One statistic of a series of values, updated value by value.

    It is written in one of two ways. In plain Python there is an instance for each symbol: `update` gets the values of a bar
    and gives the outputs, and `state` names the attributes that are kept. Compiled, there is one instance for all symbols:
    `row` gives the type of a row of state, and `kernel` is a loop over rows (see `torghut_core.stages.kernel`)::

        def kernel(state, row, inputs, numbers, out): ...

    with `state` of shape (symbols,) and type `row()`, zeros at first; `row` of shape (bars,), the row of state of each bar;
    `inputs` of shape (inputs, bars); `numbers` of shape (numbers,), see there; `out` of shape (outputs, bars), to be filled.
    The bars of different symbols come mixed, those of one symbol in order.

    The laws, which the conformance suite checks: however the bars are cut into batches, the values are the same to the bit;
    saving and restoring in between changes nothing; a value depends on its own symbol's bars up to its own alone; a value
    that is not known yet is NaN, and an input that is NaN leaves the state as it was and gives NaN.
    """

    inputs: ClassVar[tuple[str, ...]] = ("close",)
    """What it is made of: columns of the bar (``open high low close volume vwap trade_count``), which are taken where a
    strategy gives no other value; of any other name the strategy has to give the value."""

    outputs: ClassVar[tuple[str, ...]] = ("value",)
    """What it gives; a strategy picks one of several: ``bollinger(20)["upper"]``."""

    kernel: ClassVar[Any] = None
    """The compiled loop; None for one in plain Python."""

    @property
    def warmup(self) -> int:
        """Bars of the inputs until every output has a value; of one bar that is 1."""
        return 1

    @property
    def memory(self) -> int:
        """Bars that a value depends on; more than `warmup` where what is older fades away, as in an average.

        A new one starts so many bars back.
        """
        return self.warmup

    def row(self) -> Any:
        """The numpy type of the state of one symbol; only of a compiled indicator."""
        raise NotImplementedError

    def numbers(self) -> tuple[float, ...]:
        """What the kernel needs of the parameters: all of them in the order of their definition."""
        return tuple(float(getattr(self.params, name)) for name in type(self.params).model_fields)

    def update(self, *values: float) -> float | tuple[float, ...]:
        """Give the outputs after one more bar; only of an indicator in plain Python."""
        raise NotImplementedError
