"""A word where a number belongs, in every command of all members (-1, NaN: test_consistency.py)."""

import sys
import types
import typing

import pytest

import trainloop
from trainloop.paths import project_folders
from trainloop.testing import configs

GIVEN = {
    ("detection", "predict"): ["x.png"], ("mnist", "predict"): ["x.png"],
    ("active-learning", "compare"): ["entropy", "random"],
    ("active-learning", "next"): ["--data", "x"], ("playground", "add-noise"): ["--data", "x"],
    ("houdini", "import"): ["x.npz"],
}  # fmt: skip
"""What a command cannot do without."""


def is_number(hint: typing.Any) -> bool:
    """int, float, these or None, and tuples of them."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) in (typing.Union, tuple):
        return any(map(is_number, typing.get_args(hint)))
    return hint in (int, float)


@pytest.mark.parametrize("member", project_folders())
def test_a_word_is_no_number(member, monkeypatch, capsys):
    """Every numeric option of every command: exit code 2 and the option's name."""
    for command, config in configs(member).items():
        for name, hint in typing.get_type_hints(config).items():
            if not is_number(hint):
                continue
            option = "-" * min(len(name), 2) + name.replace("_", "-")
            words = [*GIVEN.get((member, command), ()), option, "three"]
            monkeypatch.setattr(sys, "argv", [command, *words])
            with pytest.raises(SystemExit) as caught:
                trainloop.parse(config)
            said = capsys.readouterr()
            assert caught.value.code == 2, f"{command} {option} three"
            assert option in said.err, f"{command} {option} three: {said.err}"
            assert not said.out
