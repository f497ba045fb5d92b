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

    - `state`: shape (symbols,), of the type that the method `row` gives; zeros at first.
    - `row`: shape (bars,), for each bar the index of its symbol's state.
    - `inputs`: shape (inputs, bars). Bars of different symbols come mixed, those of one symbol in order.
    - `numbers`: the parameters, as the method `numbers` gives them.
    - `out`: shape (outputs, bars), to be filled.

    The laws, which the conformance suite checks: however the bars are cut into batches, the values are the same to the bit;
    saving and restoring in between changes nothing; a value depends on bars of its own symbol alone, and on none after its
    own; a value that is not known yet is NaN. A bar with an input that is not known is left out: its value is NaN.
    """

    inputs: ClassVar[tuple[str, ...]] = ("close",)
    """Names of its inputs. One that is a column, such as ``high`` or ``bid`` (see `torghut_core.features`), may be left out by a
    strategy, and is that column then; any other one has to be given."""

    outputs: ClassVar[tuple[str, ...]] = ("value",)
    """Names of its outputs; of several a strategy picks one: ``bollinger(20)["upper"]``."""

    kernel: ClassVar[Any] = None
    """The compiled loop; None for one in plain Python."""

    @property
    def warmup(self) -> int:
        """How many bars it takes until every output has a value: 1 if the first bar gives one."""
        return 1

    @property
    def memory(self) -> int:
        """How many bars a value depends on: more than `warmup` where older bars fade away, as in an exponential average.

        A new instance is first fed so many bars of the past.
        """
        return self.warmup

    def row(self) -> Any:
        """Give the numpy type of the state of one symbol; only of a compiled indicator."""
        raise NotImplementedError

    def numbers(self) -> tuple[float, ...]:
        """Give the kernel what it needs of the parameters: by default all of them, in the order of their definition."""
        return tuple(float(getattr(self.params, name)) for name in type(self.params).model_fields)

    def update(self, *values: float) -> float | tuple[float, ...]:
        """Give the outputs after one more bar; only of an indicator in plain Python."""
        raise NotImplementedError
