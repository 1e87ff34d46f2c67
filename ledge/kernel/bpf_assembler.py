"""An assembler for the few eBPF instructions that are needed here. Pure: names in, bytes out.

A program is a list of instructions, and of labels between them, to which jumps refer by name.
Arithmetic is of 64 bits, that which ends in 32 of the lower 32 bits (the upper ones become zero).

Source: RFC 9669 (BPF Instruction Set Architecture); linux/bpf.h for helpers and pseudo sources.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple, Union

ByteOrder = Literal["little", "big"]
Operand = Union["Register", int]


class Register(int):
    """One of r0 (result) to r10 (frame pointer); a number that stands as an operand is itself."""


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = [Register(number) for number in range(11)]

# Sizes of what is loaded or added to, bits 3 and 4 of the code.
WORD = 0x00
DOUBLE_WORD = 0x18

# Conditions of a jump, bits 4 to 7 of the code; "above" and "below" compare without sign.
EQUAL = 0x10
ABOVE = 0x20
NOT_EQUAL = 0x50
BELOW_OR_EQUAL = 0xB0

# Classes, the lowest three bits.
_LOAD_IMMEDIATE, _LOAD, _STORE = 0x00, 0x01, 0x03
_ARITHMETIC_32, _JUMP, _JUMP_32, _ARITHMETIC = 0x04, 0x05, 0x06, 0x07
_REGISTER = 0x08  # the second operand is a register, not the immediate
_MEMORY, _ATOMIC = 0x60, 0xC0  # modes
_ADD, _SUBTRACT, _DIVIDE, _AND, _MOVE = 0x00, 0x10, 0x30, 0x50, 0xB0
_ALWAYS, _CALL, _EXIT = 0x00, 0x80, 0x90
_PSEUDO_MAP_FD = 1


class ProgramError(ValueError):
    """A jump to a label that is not there or too far away, a label that stands twice."""


class Label(str):
    """A place in a program."""


class Instruction(NamedTuple):
    """struct bpf_insn; a jump has the name of its target in the place of the offset."""

    code: int
    destination: int
    source: int
    offset: int | str
    immediate: int


Program = Sequence[Union[Instruction, Label]]


def move(destination: Register, operand: Operand) -> Instruction:
    """destination = operand; a number is sign-extended."""
    return _operation(_ARITHMETIC | _MOVE, destination, operand)


def move32(destination: Register, operand: Operand) -> Instruction:
    """destination = operand, 32 bits."""
    return _operation(_ARITHMETIC_32 | _MOVE, destination, operand)


def add(destination: Register, operand: Operand) -> Instruction:
    """destination += operand."""
    return _operation(_ARITHMETIC | _ADD, destination, operand)


def subtract(destination: Register, operand: Operand) -> Instruction:
    """destination -= operand."""
    return _operation(_ARITHMETIC | _SUBTRACT, destination, operand)


def divide(destination: Register, operand: Operand) -> Instruction:
    """destination /= operand, without sign; zero where the operand is zero."""
    return _operation(_ARITHMETIC | _DIVIDE, destination, operand)


def and32(destination: Register, operand: Operand) -> Instruction:
    """destination &= operand, 32 bits."""
    return _operation(_ARITHMETIC_32 | _AND, destination, operand)


def load(size: int, destination: Register, address: Register, offset: int) -> Instruction:
    """destination = *(address + offset)."""
    return Instruction(_LOAD | _MEMORY | size, destination, address, offset, 0)


def store(size: int, address: Register, offset: int, source: Register) -> Instruction:
    """*(address + offset) = source."""
    return Instruction(_STORE | _MEMORY | size, address, source, offset, 0)


def atomic_add(size: int, address: Register, offset: int, source: Register) -> Instruction:
    """*(address + offset) += source, in one step for all CPUs."""
    return Instruction(_STORE | _ATOMIC | size, address, source, offset, _ADD)


def jump(target: str) -> Instruction:
    """Go on at the label."""
    return Instruction(_JUMP | _ALWAYS, 0, 0, target, 0)


def jump_if(left: Register, condition: int, right: Operand, target: str) -> Instruction:
    """Go on at the label if the condition holds for all 64 bits; a number is sign-extended."""
    return _operation(_JUMP | condition, left, right, target)


def jump_if32(left: Register, condition: int, right: Operand, target: str) -> Instruction:
    """Go on at the label if the condition holds for the lower 32 bits (Linux 5.1)."""
    return _operation(_JUMP_32 | condition, left, right, target)


def call(helper: int) -> Instruction:
    """r0 = helper(r1, …, r5); r1 to r5 are lost."""
    return Instruction(_JUMP | _CALL, 0, 0, 0, helper)


def leave() -> Instruction:
    """End the program; r0 is its verdict."""
    return Instruction(_JUMP | _EXIT, 0, 0, 0, 0)


def load_map(destination: Register, map_fd: int) -> tuple[Instruction, Instruction]:
    """destination = the map of this descriptor; two instructions long."""
    code = _LOAD_IMMEDIATE | DOUBLE_WORD
    first = Instruction(code, destination, _PSEUDO_MAP_FD, 0, map_fd)
    return first, Instruction(0, 0, 0, 0, 0)


def assemble(program: Program, byteorder: ByteOrder = sys.byteorder) -> bytes:
    """The program as an array of struct bpf_insn. Raises ProgramError."""
    places = _places(program)
    instructions = [item for item in program if isinstance(item, Instruction)]
    return b"".join(
        [_encoded(item, at, places, byteorder) for at, item in enumerate(instructions)]
    )


def _operation(code: int, left: Register, right: Operand, target: str | int = 0) -> Instruction:
    if isinstance(right, Register):
        return Instruction(code | _REGISTER, left, right, target, 0)
    return Instruction(code, left, 0, target, right)


def _places(program: Program) -> dict[str, int]:
    """The number of the instruction that follows each label."""
    places: dict[str, int] = {}
    at = 0
    for item in program:
        if isinstance(item, Instruction):
            at += 1
        elif item in places:
            raise ProgramError(f"the label {item} stands twice")
        else:
            places[item] = at
    return places


def _encoded(
    instruction: Instruction, at: int, places: dict[str, int], byteorder: ByteOrder
) -> bytes:
    code, destination, source, offset, immediate = instruction
    if isinstance(offset, str):
        offset = _distance(offset, at, places)
    # The first register stands in the lower four bits, on a big-endian machine in the upper ones.
    low, high = (destination, source) if byteorder == "little" else (source, destination)
    layout = "<BBhI" if byteorder == "little" else ">BBhI"
    return struct.pack(layout, code, low | high << 4, offset, immediate & 0xFFFFFFFF)


def _distance(target: str, at: int, places: dict[str, int]) -> int:
    """From the instruction after the jump to the one after the label."""
    if target not in places:
        raise ProgramError(f"there is no label {target}")
    distance = places[target] - at - 1
    if not -0x8000 <= distance <= 0x7FFF:
        raise ProgramError(f"the label {target} is {distance} instructions away")
    return distance
