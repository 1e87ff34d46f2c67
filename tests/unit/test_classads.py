"""Our ClassAd literals agree with classad2's, in both directions."""

from __future__ import annotations

import classad2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledge.classads import attribute, literal, string

TEXTS = [
    "",
    "plain",
    "two words",
    "  blanks around  ",
    'a "quoted" word',
    "'single'",
    "back\\slash",
    "ends in a backslash\\",
    'backslash and quote \\"',
    "line\nbreak",
    "tab\tand\rreturn",
    "naïve 日本語 🎉",
    "$(macro) ${x} %d",
    "a = b",
]


def written_by_classad2(**attributes: str) -> bytes:
    """An ad in the old format, as the starter writes it to hooks and to $_CONDOR_JOB_AD."""
    ad = classad2.ClassAd()
    for name, value in attributes.items():
        ad[name] = value
    text: str = ad.printOld()
    return text.encode()


@pytest.mark.parametrize("text", TEXTS)
def test_classad2_reads_the_string_that_we_wrote(text: str) -> None:
    assert classad2.ExprTree(literal(text)).eval() == text


@pytest.mark.parametrize("character", sorted({chr(code) for code in range(32)} - set("\n\r\t")))
def test_other_control_characters_are_left_out(character: str) -> None:
    assert literal(f"a{character}b") == '"ab"'


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_classad2_reads_any_string_that_we_wrote(text: str) -> None:
    assert classad2.ExprTree(literal(text)).eval() == text


@pytest.mark.parametrize("value", [0, 1, -1, 2**31, 2**63 - 1, -(2**63) + 1, True, False])
def test_classad2_reads_the_number_that_we_wrote(value: int) -> None:
    read = classad2.ExprTree(literal(value)).eval()
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("value", [0.0, 0.000001, 0.1, 1.5, 12.345678, 86400.0, 1e9, 123456789.123])
def test_classad2_reads_the_seconds_that_we_wrote(value: float) -> None:
    read = classad2.ExprTree(literal(value)).eval()
    assert isinstance(read, float)
    assert read == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("command", [text for text in TEXTS if "\n" not in text])
def test_we_read_the_command_that_classad2_wrote(command: str) -> None:
    ad = written_by_classad2(Cmd=command, Other="x")
    assert string(attribute(ad, b"Cmd")) == command.encode()


def test_a_command_with_a_line_break_is_not_guessed_at() -> None:
    # The old format writes the line break as it is; what follows may look like anything.
    ad = written_by_classad2(Cmd='a\nJobUniverse = 12\nb"')
    assert string(attribute(ad, b"Cmd")) is None


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_we_read_any_command_that_classad2_wrote(command: str) -> None:
    assert string(attribute(written_by_classad2(Cmd=command), b"Cmd")) == command.encode()


@pytest.mark.parametrize(
    ("ad", "expected"),
    [
        pytest.param(b'Cmd = "/bin/true"\n', b'"/bin/true"', id="alone"),
        pytest.param(b'cMD="/bin/true"', b'"/bin/true"', id="other case, no blanks"),
        pytest.param(b'CmdHash = 1\nCmd = "x"\n', b'"x"', id="a longer name before"),
        pytest.param(b'Args = "Cmd = 1"\n', None, id="inside another's value"),
        pytest.param(b"Cmd = a == b\n", b"a == b", id="an expression with equals signs"),
        pytest.param(b"", None, id="an empty ad"),
        pytest.param(b"Cmd\n", None, id="a name alone"),
    ],
)
def test_attribute(ad: bytes, expected: bytes | None) -> None:
    assert attribute(ad, b"Cmd") == expected


@pytest.mark.parametrize("expression", [None, b"", b'"', b"undefined", b"5", b'"open', b'shut"'])
def test_no_string_literal_is_no_string(expression: bytes | None) -> None:
    assert string(expression) is None
