from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.plan.memory import Life, place
from gmpq.backends.tvm.target.cpu import RULES

lives = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(
        lambda size, first, length: Life(size, first, first + length),
        st.integers(0, 10_000),
        st.integers(0, 20),
        st.integers(0, 10),
    ),
    max_size=12,
)


@given(lives)
def test_values_that_live_together_do_not_overlap(values: dict[str, Life]) -> None:
    offsets = place(values, RULES).offsets
    for a, b in ((a, b) for a in values for b in values if a < b):
        if values[a].overlaps(values[b]):
            apart = offsets[a] + values[a].size_bytes <= offsets[b]
            assert apart or offsets[b] + values[b].size_bytes <= offsets[a]


@given(lives)
def test_every_offset_is_aligned_and_inside_the_workspace(values: dict[str, Life]) -> None:
    plan = place(values, RULES)
    for name, life in values.items():
        assert plan.offsets[name] % 64 == 0
        assert plan.offsets[name] + life.size_bytes <= plan.size_bytes


@given(lives)
def test_the_workspace_holds_at_least_what_lives_at_once(values: dict[str, Life]) -> None:
    plan = place(values, RULES)
    assert plan.size_bytes >= plan.live_bytes


def test_a_chain_needs_two_values_at_a_time() -> None:
    chain = {str(i): Life(1000, i, i + 1) for i in range(10)}
    assert place(chain, RULES).size_bytes == place(chain, RULES).live_bytes
