"""Units as people write them: what is a quantity of which key, and what is none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledge.plan.document import LIMIT_BOUNDS
from ledge.plan.plan import Plan
from ledge.policy.errors import Unfit
from ledge.policy.keys import KEYS, NotLiteral, QuantityKey, attribute_of
from ledge.policy.quantities import BYTES, Share, amount

K, M, G, T, P = (1 << shift for shift in (10, 20, 30, 40, 50))
LARGEST = (1 << 63) - 1
QUANTITIES = {name: key for name, key in KEYS.items() if isinstance(key, QuantityKey)}


def share(hundredths: int) -> tuple[str, int]:
    return ("share", hundredths)


RIGHT = [
    ("pids_max", "1000", 1000),
    ("pids_max", "1", 1),
    ("pids_max", "4194304", 4194304),
    ("pids_max", " 7 ", 7),
    ("pids_max", "100.0", 100),
    ("pids_max", "none", None),
    ("pids_max", "None", None),
    ("memory_high", "512M", 512 * M),
    ("memory_high", "512MB", 512 * M),
    ("memory_high", "512MiB", 512 * M),
    ("memory_high", "512m", 512 * M),
    ("memory_high", "512 mb", 512 * M),
    ("memory_high", "1.5G", 3 * G // 2),
    ("memory_high", "2T", 2 * T),
    ("memory_high", "1P", P),
    ("memory_high", "1048576", M),
    ("memory_high", "1048576B", M),
    ("memory_high", "1024K", M),
    ("memory_high", "9223372036854775807", LARGEST),
    ("memory_high", "50%", share(5000)),
    ("memory_high", "12.5%", share(1250)),
    ("memory_high", "0%", share(0)),
    ("memory_swap_max", "0", 0),
    ("memory_swap_max", "1M", M),
    ("memory_swap_max", "200%", share(20000)),
    ("cpu_max", "1.5", 1.5),
    ("cpu_max", "2", 2.0),
    ("cpu_max", "150%", 1.5),
    ("cpu_max", "1%", 0.01),
    ("cpu_max", "0.01", 0.01),
    ("cpu_max", "8192", 8192.0),
    ("exclusive_cpus", "4", 4),
    ("io_read_max", "10MB/s", 10 * M),
    ("io_read_max", "10 MB / s", 10 * M),
    ("io_read_max", "10M", 10 * M),
    ("io_read_max", "4096", 4096),
    ("io_write_max", "4K/s", 4096),
    ("io_write_max", "1.5 GiB/s", 3 * G // 2),
    ("io_read_operations_max", "1000/s", 1000),
    ("io_write_operations_max", "4294967295", 4294967295),
    ("io_weight", "1", 1),
    ("io_weight", "10000", 10000),
]

WRONG = [
    ("pids_max", "0"),
    ("pids_max", "-1"),
    ("pids_max", "1.5"),
    ("pids_max", "4194305"),
    ("pids_max", "10M"),
    ("pids_max", "50%"),
    ("pids_max", "10/s"),
    ("pids_max", "9" * 31),
    ("pids_max", "10 processes"),
    ("memory_high", "512"),  # meant as megabytes, as HTCondor has them
    ("memory_high", "1023K"),
    ("memory_high", "0"),
    ("memory_high", "0.0000010G"),
    ("memory_high", "512MB/s"),
    ("memory_high", "512Mbit"),
    ("memory_high", "512X"),
    ("memory_high", "-1G"),
    ("memory_high", "-50%"),
    ("memory_high", "12.345%"),
    ("memory_high", "9223372036854775808"),
    ("memory_high", "8192P"),
    ("memory_swap_max", "512"),
    ("memory_swap_max", "-1M"),
    ("memory_swap_max", "0.1B"),
    ("cpu_max", "0"),
    ("cpu_max", "0.009"),
    ("cpu_max", "0%"),
    ("cpu_max", "8193"),
    ("cpu_max", "2M"),
    ("exclusive_cpus", "0"),
    ("exclusive_cpus", "1.5"),
    ("exclusive_cpus", "100%"),
    ("io_read_max", "10MB/h"),
    ("io_read_max", "10MB/min"),
    ("io_read_max", "10%"),
    ("io_read_max", "10"),  # meant as megabytes
    ("io_write_max", "0"),
    ("io_write_operations_max", "0/s"),
    ("io_write_operations_max", "1K/s"),
    ("io_write_operations_max", "4294967296"),
    ("io_weight", "0"),
    ("io_weight", "10001"),
]

# Not even wrong: these are left to ClassAds.
NO_LITERAL = [
    "", "2 * MY.Cpus", "MY.Memory", "nothing", "1e6", "0x10", "+5", "1_000", "1:30", ".5", "5.",
    "10 000", "1,5", "½", "٣", "inf", "nan", "none of it", '"512M"', "512M + 1",
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "value"), RIGHT, ids=str)
def test_right(name: str, text: str, value: object) -> None:
    found = KEYS[name].literal(text)
    assert (("share", found.hundredths) if isinstance(found, Share) else found) == value
    assert type(found) is type(value) or isinstance(found, Share)


@pytest.mark.parametrize(("name", "text"), WRONG, ids=str)
def test_wrong_says_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(Unfit) as caught:
        KEYS[name].literal(text)
    assert str(caught.value) == KEYS[name].expected


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize("text", NO_LITERAL, ids=repr)
def test_no_literal(name: str, text: str) -> None:
    with pytest.raises(NotLiteral):
        KEYS[name].literal(text)


@pytest.mark.parametrize("name", QUANTITIES)
def test_what_is_expected_can_be_written(name: str) -> None:
    key = QUANTITIES[name]
    for example in key.quantity.example.split(" or "):
        assert example in key.expected
        key.literal(example)
    assert KEYS[name].literal("none") is None


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize(
    "number",
    [True, False, math.nan, math.inf, -math.inf, -1, -0.5, 5e-324, 1e300, 10**19, -(1 << 63)],
    ids=str,
)
def test_what_an_expression_may_not_give(name: str, number: float) -> None:
    with pytest.raises(Unfit):
        KEYS[name].converted(number)


@pytest.mark.parametrize(
    ("name", "result", "value"),
    [
        ("pids_max", 100.0, 100),
        ("pids_max", "100", 100),
        ("pids_max", "none", None),
        ("memory_high", 1048576.9, 1048576),
        ("memory_high", "1G", G),
        ("cpu_max", "150%", 1.5),
        ("cpu_max", 2, 2.0),
        ("io_read_max", "10MB/s", 10 * M),
        ("memory_swap_max", 0, 0),
        ("memory_swap_max", -0.0, 0),
    ],
    ids=str,
)
def test_what_an_expression_may_give(name: str, result: object, value: object) -> None:
    assert KEYS[name].converted(result) == value


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize("result", ["", "many", "1 2", [1], None, object(), "leaf"], ids=str)
def test_what_is_no_number(name: str, result: object) -> None:
    with pytest.raises(Unfit):
        KEYS[name].converted(result)


@pytest.mark.parametrize("name", QUANTITIES)
@given(data=st.data())
def test_a_value_that_is_shown_reads_the_same(name: str, data: st.DataObject) -> None:
    key = QUANTITIES[name]
    smallest, largest = LIMIT_BOUNDS[key.quantity.limit]
    numbers = st.integers(math.ceil(smallest), int(largest))
    if key.quantity.smallest_but_zero:
        numbers = st.just(0) | st.integers(key.quantity.smallest_but_zero, int(largest))
    number = data.draw(numbers)
    assert key.literal(key.shown(number)) == number


@pytest.mark.parametrize("name", QUANTITIES)
@given(text=st.text() | st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,3})? ?[A-Za-z%]{0,3}(/s)?"))
def test_any_text_is_a_value_within_bounds_or_none(name: str, text: str) -> None:
    key = QUANTITIES[name]
    try:
        value = key.literal(text)
    except (NotLiteral, Unfit):
        return
    assert value is None or isinstance(value, Share) or within_bounds(key, value)


@pytest.mark.parametrize("name", QUANTITIES)
@given(number=st.floats() | st.integers())
def test_any_number_is_a_value_within_bounds_or_none(name: str, number: float) -> None:
    key = QUANTITIES[name]
    try:
        value = key.converted(number)
    except Unfit:
        return
    assert within_bounds(key, value)
    assert isinstance(value, float if name == "cpu_max" else int)


def within_bounds(key: QuantityKey, value: object) -> bool:
    smallest, largest = LIMIT_BOUNDS[key.quantity.limit]
    assert isinstance(value, (int, float))
    return smallest <= value <= largest


def test_amounts_have_the_unit_that_leaves_no_fraction() -> None:
    key = QUANTITIES["memory_high"]
    assert key.quantity.units is BYTES
    written = {M: "1M", 3 * G // 2: "1536M", M + 1: "1048577", 5 * T: "5T", LARGEST: str(LARGEST)}
    assert {number: amount(number, key.quantity) for number in written} == written


def test_every_limit_has_a_key() -> None:
    assert {key.quantity.limit for key in QUANTITIES.values()} == set(Plan().limits.__slots__)


def test_a_job_asks_by_attributes_named_like_the_keys() -> None:
    assert attribute_of("pids_max") == "LedgePidsMax"
    assert attribute_of("io_read_operations_max") == "LedgeIoReadOperationsMax"
    assert attribute_of("mounts") == "LedgeMounts"
