"""JSON that would overflow a stack, a float or a type is refused with its place."""

from __future__ import annotations

import pytest

from gmpq.errors import JsonError
from gmpq.files import strict_json

DEEPEST = strict_json.DEEPEST


def test_depth_is_limited() -> None:
    strict_json.load("[" * DEEPEST + "]" * DEEPEST)
    strict_json.load('"' + "[" * 100 + '\\"' + "{" * 100 + '"')
    for text in ("[" * 65 + "]" * 65, "\n" + '{"a":' * 65 + "1" + "}" * 65, "[" * 1_000_000):
        with pytest.raises(JsonError, match=r"line \d: nested more than 64 levels deep"):
            strict_json.load(text)


def test_an_unfinished_text_takes_linear_time() -> None:
    with pytest.raises(JsonError, match="not JSON"):
        strict_json.load('"' + "\\\\" * 1_000_000)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("1" + "0" * 300, id="digits"),
        pytest.param("1" + "0" * 10_000, id="digits-beyond-python"),
        pytest.param("-" + "9" * 310, id="negative"),
    ],
)
def test_whole_numbers_are_limited(text: str) -> None:
    with pytest.raises(JsonError, match=r"a number of \d+ digits: write a smaller one"):
        strict_json.load(f'{{"a": {text}}}')


def test_the_largest_whole_number_is_a_float() -> None:
    assert strict_json.number("x", strict_json.load("9" * 300)) > 1e299


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(JsonError, match=r"x: must be Unicode, got .{2}ud800.: write"):
        strict_json.string("x", strict_json.load('"\\ud800"'))
    with pytest.raises(JsonError, match="must be Unicode"):
        strict_json.unique("x", strict_json.load('{"\\udfff": 1}'))
    with pytest.raises(JsonError, match="must be Unicode"):
        strict_json.plain("x", strict_json.load('["\\udfff"]'))


def test_messages_are_short() -> None:
    with pytest.raises(JsonError) as caught:
        strict_json.members("x", strict_json.load(f'{{"{"a" * 10_000}": 1}}'), ("b",))
    assert len(str(caught.value)) < 100


def test_a_limit_of_sizes() -> None:
    assert strict_json.positive("x", 5, 5) == 5
    with pytest.raises(JsonError, match="x: must be at most 5, got 6"):
        strict_json.positive("x", 6, 5)
