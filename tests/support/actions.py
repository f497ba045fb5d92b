"""What a strategy of a test answers: functions of its context, made by what they propose."""


def buy(quantity, **terms):
    """Buy units, at the market where `terms` say nothing else."""
    return lambda context: context.buy(quantity, because="test", **terms)


def sell(quantity, **terms):
    """Sell units."""
    return lambda context: context.sell(quantity, because="test", **terms)


def close(**terms):
    """Close what is held."""
    return lambda context: context.close(because="test", **terms)
