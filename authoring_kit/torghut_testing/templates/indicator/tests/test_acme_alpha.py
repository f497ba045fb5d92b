"""What this indicator promises; the checks of every indicator run by themselves."""

from acme_alpha import AcmeAlpha


def test_two_rises_of_three_changes_are_two_thirds():
    share = AcmeAlpha(AcmeAlpha.Params(span=3))
    assert [share.update(value) for value in (100, 101, 100, 102)][-1] == 2 / 3
