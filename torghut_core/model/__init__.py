"""The words of torghut: the market's (`market`) and the trader's (`trading`)."""
