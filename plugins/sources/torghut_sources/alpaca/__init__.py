"""Alpaca's market data, https://alpaca.markets: equities and crypto, live and past.

- `source` is the plugin. `connection` owns the socket and does what `session`, a table without IO, decides.
- `inbox` is the queue of frames; `wire` decodes them into `messages`, and `events` makes columns or envelopes of these.
- `filling` fills a `gap` from the `history`; `dedup` drops what comes twice; `silence` gives a silent feed a time.
- `feed` is the venue's clock, `hours` when equities have to give data, `refusals` what errors mean, `settings` where it is.
"""
