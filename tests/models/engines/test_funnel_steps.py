"""Step texts: what people may write, and what they are told when it cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.engines.funnel_range import Parameters
from models.engines.funnel_steps import Condition, Step, StepError, parse_step, parse_steps


def test_names_and_conditions_are_read():
    assert parse_steps("visit; sign up[plan=pro, lang!=de] ;order;") == (
        Step("visit"),
        Step("sign up", (Condition("plan", "pro"), Condition("lang", "de", negated=True))),
        Step("order"),
    )


def test_quotes_keep_every_symbol():
    assert parse_step('"a; [b]"[x="1, 2"]') == Step("a; [b]", (Condition("x", "1, 2"),))
    assert parse_step('"say ""hi"""') == Step('say "hi"')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "event name of step 1 is missing"),
        ("a;;b", "event name of step 2 is missing"),
        ("a[", "attribute name of step 1 is missing"),
        ("a[x]", "'=' expected after attribute 'x'"),
        ("a[x=]", "value of 'x' of step 1 is missing"),
        ("a[x=1", "']' expected"),
        ("a]", "']' without '['"),
        ("a[x=1] b", "';' expected between two steps, found 'b'"),
        ('"a', "never closed"),
        ('a"b', "quote may only stand at the beginning"),
        (";".join("a" * 30), "30 steps given; at most 20"),
    ],
)
def test_a_fault_is_named_with_its_place(text, says):
    with pytest.raises(StepError) as caught:
        parse_steps(text)
    assert says in str(caught.value)
    assert "Write steps as" in str(caught.value)


def test_an_unknown_attribute_is_refused_with_the_known_ones():
    with pytest.raises(StepError, match="no attribute 'plna' \\(it has: lang, plan\\)"):
        parse_steps("a[plna=1]", ["plan", "lang"])


def test_values_are_bound_and_never_written_into_sql():
    params = Parameters()
    sql = parse_step("\"x' OR 1=1\"[a=\"'; DROP TABLE t\"]").sql(params)
    assert "DROP" not in sql and "OR 1=1" not in sql
    assert set(params.values.values()) == {"x' OR 1=1", "'; DROP TABLE t"}


@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8)), min_size=1, max_size=4))
def test_whatever_is_quoted_is_read_back(pairs):
    def quote(text):
        return '"' + text.replace('"', '""') + '"'

    text = "; ".join(f"{quote(name)}[a={quote(value)}]" for name, value in pairs)
    assert parse_steps(text) == tuple(Step(name, (Condition("a", value),)) for name, value in pairs)
