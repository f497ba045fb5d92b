"""Which prints and quotes count for what: the tapes' table, letter by letter, and what is read from vendors' forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.effort import examples
from torghut_core import Batch, Quotes, SaleConditions, SymbolTable, Trades

ALL, VOLUME_ALONE, NOTHING = 0, 1, 3
NAN = float("nan")

AS_ON_EVERY_TAPE = {
    ALL: "A D E F K L O S X Y 1 2 5 6 8",
    VOLUME_ALONE: "C G H I N P R T U V W Z 3 4 7",
    NOTHING: "M Q 9",
}
LETTERS = [(letter, answer) for answer, letters in AS_ON_EVERY_TAPE.items() for letter in letters.split()]
TAPES = SaleConditions()


@pytest.mark.parametrize(("letter", "answer"), LETTERS)
@pytest.mark.parametrize("form", ["{}", "@,{}", " ,{}", "@ {}", "@F{}", "@,F,{}"])
def test_letter_of_the_tapes(letter, answer, form):
    """A condition leaves out the same alone, in Alpaca's list, and in the four characters of the tapes."""
    assert TAPES.left_out(form.format(letter)) == answer


@pytest.mark.parametrize(("text", "answer"), [("B", 1), (" ,B", 1), ("  B", 1), ("@,B", 0), ("@B", 0), ("B,T", 1)])
def test_letter_on_which_the_tapes_differ(text, answer):
    """B is an average price on tapes A and B, and a bunched trade on C, which prints @ for a regular sale."""
    assert TAPES.left_out(text) == answer


FLAGS = {
    ALL: ["1", "20", "40", "80", "800", "20000000", "20000020", "0x20000001"],
    VOLUME_ALONE: [
        "100000",
        "20100020",
        "0x100000",
        "2000",
        "20002020",
        "200",
        "4000",
        "2000000",
        "80000000",
        "A0000020",
    ],
    NOTHING: ["1000000", "4000000", "5100000"],
}


@pytest.mark.parametrize(("text", "answer"), [(text, answer) for answer, texts in FLAGS.items() for text in texts])
def test_word_of_flags(text, answer):
    """Any bit of a hexadecimal word leaves out what its condition does."""
    assert TAPES.left_out(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"), [("@ 100000", 1), ("100000,20", 1), ("F,0x100000", 1), ("@,1000000", 3), ("@ 00000020", 0)]
)
def test_word_of_flags_beside_other_codes(text, answer):
    """It leaves out what it would alone."""
    assert TAPES.left_out(text) == answer


@pytest.mark.parametrize("text", ["", " ", "@", "l", "m", "w", "SELLER", "regular trade"])
def test_text_that_is_no_condition_leaves_out_nothing(text):
    """Other venues' words are not read as letters."""
    assert TAPES.left_out(text) == ALL


@given(st.text("@ ,ABCGMQTWZ1479l", max_size=8))
@examples(100)
def test_conditions_of_a_pair_leave_out_nothing(text):
    """The tapes' letters say nothing about crypto; the mark of a suspicious print does."""
    assert TAPES.left_out(text, is_pair=True) == ALL
    assert TAPES.left_out(text, is_suspicious=True, is_pair=True) == NOTHING


@given(st.lists(st.sampled_from([letter for letter, _ in LETTERS]), max_size=5))
@examples(100)
def test_print_counts_for_what_all_its_conditions_allow(letters):
    """Several conditions leave out what each of them does."""
    expected = 0
    for letter in letters:
        expected |= dict(LETTERS)[letter]
    assert TAPES.left_out(",".join(letters)) == expected


LISTED = [
    ("100000", "100000", True),
    ("100000", "20100020", True),
    ("100000", "20000020", False),
    ("0x1", "1", True),
    ("0x1", "2", False),
    ("100000", "@ T", False),
    ("W", "@,W", True),
    ("W", "@TW", True),
    ("W", "w", False),
    ("4", "@ 4", True),
    ("B", "20000020", False),
    ("avg", "@ avg", True),
    ("avg", "a v g", False),
]


@pytest.mark.parametrize(("condition", "text", "fits"), LISTED)
def test_listed_condition_fits_text(condition, text, fits):
    """A list comes in place of the table: flag words are compared bit by bit, codes with codes; the rest counts."""
    assert SaleConditions([condition]).left_out(text) == (NOTHING if fits else ALL)


def test_trades_whose_price_counts():
    """A batch gives them by the conditions and the symbol of each print."""
    symbols = SymbolTable()
    numbers = [symbols.number(name) for name in ("SPY", "BTC/USD", "SPY", "SPY")]
    conditions = [symbols.condition(*each) for each in (("W", False), ("W", False), ("", True), ("@,F", False))]
    trades = Trades.from_columns(at=range(4), symbol=numbers, conditions=conditions, price=[1.0, 2.0, 3.0, 4.0])
    batch = Batch.of(symbols, 0, np.zeros(4, np.int64), trades)
    assert batch.counting_trades.price.tolist() == [2.0, 4.0]
    assert batch.counting_trades.at.tolist() == [1, 3]


def test_quotes_that_say_something_about_the_price():
    """A stub, a crossed quote and a side alone do not."""
    pairs = [
        (99.99, 100.01),
        (0.01, 199_999.99),
        (100.02, 100.0),
        (97.6, 102.4),
        (97.4, 102.6),
        (NAN, 100.0),
        (100.0, NAN),
    ]
    bid, ask = np.array(pairs).T
    quotes = Quotes.from_columns(at=range(len(pairs)), bid_price=bid, ask_price=ask)
    batch = Batch.of(SymbolTable(), 0, np.zeros(len(pairs), np.int64), quotes=quotes)
    assert batch.counting_quotes.at.tolist() == [0, 3]
