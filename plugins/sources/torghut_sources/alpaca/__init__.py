"""Alpaca's market data, https://alpaca.markets: equities and crypto, live and past.

`wire` is what the venue says in torghut's words, `refusals` what its errors mean, `history` the way to what is past,
`settings` where all of it is.
"""
