"""How often a value has risen of late."""

from torghut_core import Indicator, Register, hookimpl, param


class AcmeAlpha(Indicator):
    """Share of the last `span` changes that were upward, 0 to 1."""

    state = ("before",)

    class Params(Indicator.Params):
        """Parameters of `AcmeAlpha`."""

        span: int = param(10, ge=1, le=1000, help="changes that are counted, bars")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.before: list[float] = []

    @property
    def warmup(self) -> int:
        """Bars until there is a value."""
        return int(self.params.span) + 1

    def update(self, *values: float) -> float:
        """The share after one more bar."""
        self.before = [*self.before, *values][-self.warmup :]
        if len(self.before) < self.warmup:
            return float("nan")
        rises = sum(after > before for before, after in zip(self.before, self.before[1:], strict=False))
        return rises / (len(self.before) - 1)


@hookimpl
def register_indicators(register: Register[Indicator]) -> None:
    """Register the name that strategies use."""
    register("acme-alpha", AcmeAlpha)
