"""eBPF instructions byte by byte (RFC 9669), labels, and the counting program of few prefixes."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest

from ledge.kernel.bpf_assembler import (
    ABOVE,
    BELOW_OR_EQUAL,
    DOUBLE_WORD,
    EQUAL,
    NOT_EQUAL,
    R0,
    R1,
    R2,
    R3,
    R6,
    R10,
    WORD,
    Instruction,
    Label,
    Program,
    ProgramError,
    add,
    and32,
    assemble,
    atomic_add,
    call,
    divide,
    jump,
    jump_if,
    jump_if32,
    leave,
    load,
    load_map,
    move,
    move32,
    subtract,
)
from ledge.network.program import Prefix, counting_program


@pytest.mark.parametrize(
    ("instruction", "little", "big"),
    [
        (move(R6, R1), "bf16000000000000", "bf61000000000000"),
        (move(R0, 1), "b700000001000000", "b700000000000001"),
        (move(R2, -1), "b7020000ffffffff", "b7200000ffffffff"),
        (move32(R3, 0x80000001), "b403000001000080", "b430000080000001"),
        (move32(R3, R2), "bc23000000000000", "bc32000000000000"),
        (add(R0, R6), "0f60000000000000", "0f06000000000000"),
        (add(R10, -8), "070a0000f8ffffff", "07a00000fffffff8"),
        (subtract(R2, 52), "1702000034000000", "1720000000000034"),
        (subtract(R2, R3), "1f32000000000000", "1f23000000000000"),
        (divide(R3, R2), "3f23000000000000", "3f32000000000000"),
        (and32(R2, R3), "5c32000000000000", "5c23000000000000"),
        (and32(R2, 255), "54020000ff000000", "54200000000000ff"),
        (load(WORD, R2, R6, 40), "6162280000000000", "6126002800000000"),
        (load(DOUBLE_WORD, R1, R10, -8), "79a1f8ff00000000", "791afff800000000"),
        (atomic_add(DOUBLE_WORD, R0, 8, R1), "db10080000000000", "db01000800000000"),
        (call(81), "8500000051000000", "8500000000000051"),
        (leave(), "9500000000000000", "9500000000000000"),
    ],
)
def test_an_instruction(instruction: Instruction, little: str, big: str) -> None:
    assert assemble([instruction], "little").hex() == little
    assert assemble([instruction], "big").hex() == big


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        (jump("there"), "0500010000000000"),
        (jump_if(R2, EQUAL, 1, "there"), "1502010001000000"),
        (jump_if(R2, ABOVE, R3, "there"), "2d32010000000000"),
        (jump_if(R2, BELOW_OR_EQUAL, R3, "there"), "bd32010000000000"),
        (jump_if32(R2, NOT_EQUAL, 0xC0A80000, "there"), "560201000000a8c0"),
    ],
)
def test_a_jump(instruction: Instruction, expected: str) -> None:
    program: Program = [instruction, leave(), Label("there"), leave()]
    assert assemble(program, "little").hex() == expected + 2 * "9500000000000000"


def test_a_map_takes_two_instructions() -> None:
    expected = "1811000007000000" + "0000000000000000"
    assert assemble(load_map(R1, 7), "little").hex() == expected
    program: Program = [jump("there"), *load_map(R1, 7), Label("there"), leave()]
    assert assemble(program, "little").hex() == "0500020000000000" + expected + "9500000000000000"


def test_a_jump_backwards_and_two_labels_at_one_place() -> None:
    program: Program = [Label("a"), Label("b"), move(R0, 0), jump("a"), jump("b")]
    code = assemble(program, "little").hex()
    assert code == "b700000000000000" + "0500feff00000000" + "0500fdff00000000"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ([jump("nowhere")], "no label nowhere"),
        ([Label("a"), Label("a"), leave()], "a stands twice"),
        ([jump("far"), *[leave()] * 0x8000, Label("far")], "32768 instructions away"),
        ([Label("far"), *[leave()] * 0x8000, jump("far")], "-32769 instructions away"),
    ],
)
def test_a_wrong_program(program: Program, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        assemble(program)


def test_the_farthest_jumps() -> None:
    there: Program = [jump("far"), *[leave()] * 0x7FFF, Label("far")]
    back: Program = [Label("far"), *[leave()] * 0x7FFF, jump("far")]
    assert struct.unpack_from("<h", assemble(there, "little"), 2) == (0x7FFF,)
    assert struct.unpack_from("<h", assemble(back, "little"), 0x7FFF * 8 + 2) == (-0x8000,)


def matched(prefix: str, ingress: bool = False) -> list[str]:
    """What the prefix adds to the program, without jumps' distances."""
    with_it = instructions([ip_network(prefix)], ingress)
    without = instructions([], ingress)
    begin = next(at for at, pair in enumerate(zip(with_it, without)) if pair[0] != pair[1])
    return with_it[begin : begin + len(with_it) - len(without)]


def instructions(prefixes: list[Prefix], ingress: bool) -> list[str]:
    program = counting_program(ingress, prefixes, 7, "little")
    codes = [program[at : at + 8] for at in range(0, len(program), 8)]
    # A jump's class is 5 or 6; a call or the end has no distance.
    blank = [code[:2] + b"\0\0" + code[4:] if code[0] & 7 in (5, 6) else code for code in codes]
    return [code.hex() for code in blank]


@pytest.mark.parametrize(
    ("prefix", "ingress", "expected"),
    [
        # r4 = source or destination; r5 = mask; r4 &= r5; if r4 != prefix: skip what follows
        (
            "10.0.0.0/8",
            False,
            ["6124100000000000", "b4050000ff000000", "5c54000000000000", "560400000a000000"],
        ),
        (
            "172.16.0.0/12",
            True,
            ["61240c0000000000", "b4050000fff00000", "5c54000000000000", "56040000ac100000"],
        ),
        ("192.0.2.1/32", False, ["6124100000000000", "56040000c0000201"]),
        (
            "0.0.0.0/0",
            False,
            ["6124100000000000", "b405000000000000", "5c54000000000000", "5604000000000000"],
        ),
        (
            "fc00::/7",
            False,
            ["6124180000000000", "b4050000fe000000", "5c54000000000000", "56040000fc000000"],
        ),
        (
            "2001:db8::/33",
            True,
            ["6124080000000000", "5604000020010db8", "61240c0000000000", "b405000080000000",
             "5c54000000000000", "5604000000000000"],
        ),
    ],
)  # fmt: skip
def test_a_local_prefix(prefix: str, ingress: bool, expected: list[str]) -> None:
    assert matched(prefix, ingress) == [*expected, "b707000010000000", "0500000000000000"]
