"""Numbers are read exactly, in every spelling, and nothing else is."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.quantities import Quantity, number, only_number, quantity, undressed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", Fraction(12)),
        ("+3.50", Fraction(7, 2)),
        (".5", Fraction(1, 2)),
        ("1,234,567.8", Fraction(12345678, 10)),
        ("1 000 000", Fraction(10**6)),
        ("3 / 4", Fraction(3, 4)),
        ("(3)/(4)", Fraction(3, 4)),
        ("2 1/2", Fraction(5, 2)),
        ("-2 1/2", Fraction(-5, 2)),
        (r"\frac{-3}{4}", Fraction(-3, 4)),
        (r"3\tfrac12", Fraction(7, 2)),
        ("1.5E-3", Fraction(15, 10_000)),
        (r"2 \times 10^{5}", Fraction(200_000)),
        ("2·10^5", Fraction(200_000)),
        ("1½", Fraction(3, 2)),
        ("1/0", None),
        ("2 1/0", None),
        ("1,23", None),
        ("1 23", None),
        ("2x", None),
        ("1e9999", None),
        ("9" * 201, None),
        ("", None),
        ("-", None),
        ("1.2.3", None),
    ],
)
def test_a_number_is_read_exactly_or_not_at_all(text: str, value: Fraction | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12 cm", Quantity(Fraction(12), "cm")),
        ("50%", Quantity(Fraction(50), "%")),
        (r"50\%", Quantity(Fraction(50), "%")),
        ("50 percent", Quantity(Fraction(50), "%")),
        ("12th grade", Quantity(Fraction(12), "grade")),
        (r"12^{\mathrm{th}} grade", Quantity(Fraction(12), "grade")),
        ("21_8", Quantity(Fraction(21), "_8")),
        ("5 x", None),
        ("2 pi", None),
        ("5x", None),
        ("about 5", None),
    ],
)
def test_a_measure_is_a_number_and_its_unit(text: str, found: Quantity | None) -> None:
    assert quantity(undressed(text)) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("about 12 cm", Fraction(12)),
        ("x = -5", Fraction(-5)),
        ("25% of them", Fraction(1, 4)),
        ("between 1 and 2", None),
        ("none", None),
        ("21_8", None),
    ],
)
def test_a_text_with_one_number_means_that_number(text: str, value: Fraction | None) -> None:
    assert only_number(text) == value


@given(st.text(alphabet="0123456789.,/-+eE% ()\\{}frac^_ x", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (number, only_number):
        value = read(text)
        assert value is None or isinstance(value, Fraction)
    found = quantity(undressed(text))
    assert found is None or found.same(found)
