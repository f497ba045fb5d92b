"""A tape of corporate actions is read whole, or the error names file, line and what to write."""

from datetime import date
from decimal import Decimal

import pytest
from torghut_sources.tape.corporate_actions import read_actions

from torghut_core import CorporateAction, TapeError

HEAD = "symbol,ex_date,kind,ratio,amount,payable_date"
ACTIONS = [
    CorporateAction(
        symbol="AAPL", ex_date=date(2014, 6, 9), new=Decimal(7), old=Decimal(1), payable_date=date(2014, 6, 6)
    ),
    CorporateAction(symbol="AIG", ex_date=date(2009, 7, 1), new=Decimal(1), old=Decimal(20)),
    CorporateAction(symbol="AAPL", ex_date=date(2014, 5, 8), dividend=Decimal("3.29")),
]


def written(tmp_path, text, name="actions.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_csv_and_jsonl_say_the_same(tmp_path):
    rows = written(
        tmp_path,
        f"{HEAD}\nAAPL,2014-06-09,split,7:1,,2014-06-06\n\nAIG,2009-07-01,split,1:20,,\nAAPL,2014-05-08,cash_dividend,,3.29,\n",
    )
    objects = written(
        tmp_path,
        """{"symbol": "AAPL", "ex_date": "2014-06-09", "kind": "split", "ratio": 7, "payable_date": "2014-06-06"}
{"symbol": "AIG", "ex_date": "2009-07-01", "kind": "split", "ratio": "1:20"}
{"symbol": "AAPL", "ex_date": "2014-05-08", "kind": "cash_dividend", "amount": 3.29, "payable_date": null}
""",
        "actions.jsonl",
    )
    assert read_actions(rows) == read_actions(objects) == ACTIONS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("aapl,2014-06-09,split,7:1,,", "symbol 'aapl' is not a symbol"),
        ("AAPL,06/09/2014,split,7:1,,", "ex_date '06/09/2014' is no date (write it like 2014-06-09)"),
        ("AAPL,2014-06-31,split,7:1,,", "ex_date '2014-06-31' is no date"),
        ("AAPL,2014-06-09,spinoff,7:1,,", "kind 'spinoff' is unknown (use split or cash_dividend)"),
        ("AAPL,2014-06-09,split,seven,,", "ratio 'seven' is no number"),
        ("AAPL,2014-06-09,split,,,", "ratio '' is no number"),
        ("AAPL,2014-06-09,split,0:1,,", "ratio '0' is not above 0"),
        ("AAPL,2014-06-09,split,NaN,,", "ratio 'NaN'"),
        ("AAPL,2014-06-09,split,1:1,,", "ratio '1:1' changes nothing"),
        ("AAPL,2014-06-09,split,7:1,3,", "a split has no amount (leave amount empty)"),
        ("AAPL,2014-06-09,cash_dividend,,-1,", "amount '-1' is not above 0"),
        ("AAPL,2014-06-09,cash_dividend", "has 3 values for 6 columns"),
        ("AIG,2009-07-01,split,1:20,,", "AIG has a split on 2009-07-01 in line 2 already"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_its_fix(tmp_path, line, message):
    path = written(tmp_path, f"{HEAD}\nAIG,2009-07-01,split,1:20,,\n{line}\n")
    with pytest.raises(TapeError) as caught:
        read_actions(path)
    assert str(caught.value).startswith(f"{path}: line 3: {message}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "symbol,kind\n", "column 'ex_date' is missing"),
        ("a.csv", f"{HEAD},rate\nA,2014-06-09,split,7,,,\n", "'rate' is no column (the nearest is 'ratio')"),
        ("a.jsonl", "{\n", "is no JSON"),
        ("a.jsonl", "[1]\n", "is no JSON object"),
        ("a.parquet", "", "is of an unknown format"),
    ],
)
def test_a_tape_of_another_form_is_an_error(tmp_path, name, text, message):
    with pytest.raises(TapeError) as caught:
        read_actions(written(tmp_path, text, name))
    assert message in str(caught.value)
