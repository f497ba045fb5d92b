"""What a strategy of a test answers: functions of its context, made by what they propose."""

from torghut_core.ports import Strategy


class Plan(Strategy):
    """Does at each row the next thing of a list: a function of the context, or nothing; keeps what it `sees` before that."""

    def __init__(self, *acts, sees=lambda context: None):
        super().__init__(None)
        self.acts = list(acts)
        self.sees = sees
        self.seen = []

    def on_signal(self, signal, context):
        self.seen.append(self.sees(context))
        act = self.acts.pop(0) if self.acts else None
        return act(context) if act else None


def buy(quantity, **terms):
    """Buy units, at the market where `terms` say nothing else."""
    return lambda context: context.buy(quantity, because="test", **terms)


def sell(quantity, **terms):
    """Sell units."""
    return lambda context: context.sell(quantity, because="test", **terms)


def close(**terms):
    """Close what is held."""
    return lambda context: context.close(because="test", **terms)
