"""`lab new`: a project of the same house as the others, whose training works at once.

It is made from the files under `template/`, where `{{project}}`, `{{module}}`, `{{number}}` and
`{{title}}` stand for its names. Either all of it is there in the end, or nothing of it.
"""

import importlib.util
import keyword
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from trainloop.checkpoint import write_text
from trainloop.cli import check
from trainloop.done_when import criteria
from trainloop.errors import LabError
from trainloop.paths import module_name, project_folders, workspace_root

TEMPLATE = Path(__file__).with_name("template")
LONGEST_NAME = 24  # longer ones would not leave room for code in a line


def make_project(name: str, number: int | None = None) -> Path:
    """Make `projects/<number>_<module>` and name it in the root pyproject.toml and ROADMAP.md.

    Args:
        name: of the package: small letters, digits and hyphens.
        number: of the phase, 0..99; None: the next ten after the last one, or the next number.

    Raises:
        LabError: the name or the number is taken or not possible, or the workspace's files are not
            as they should be; nothing was changed.
    """
    root = workspace_root()
    module = name.replace("-", "_")
    _check_name(name, module, root)
    number = _free_number(number)
    names = {"project": name, "module": module, "number": f"{number:02}",
             "title": name.replace("-", " ").capitalize()}  # fmt: skip
    home = root / "projects" / f"{number:02}_{module}"
    pyproject, roadmap = root / "pyproject.toml", root / "ROADMAP.md"
    before = {path: _text(path) for path in (pyproject, roadmap)}
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as scratch:
        draft = Path(scratch) / home.name
        for source in sorted(TEMPLATE.rglob("*.in")):
            inside = source.relative_to(TEMPLATE).with_suffix("")  # the suffix keeps pytest off
            target = draft / str(inside).replace("module/", f"{module}/", 1)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(filled(source.read_text("utf-8"), names), "utf-8")
        boxes = [
            f"- [ ] `{name}/{c.id}` {c.text}" for c in criteria(name, draft / "pyproject.toml")
        ]
        after = {
            pyproject: _with_member(before[pyproject], names),
            roadmap: _with_section(before[roadmap], names, boxes),
        }
        try:
            for path, text in after.items():
                write_text(path, text)
            draft.rename(home)
        except BaseException:
            for path, text in before.items():
                if _text(path) != text:
                    write_text(path, text)
            raise
    return home


def filled(text: str, names: dict[str, str]) -> str:
    """A template's text with the names in place, and its imports in ruff's order again."""
    for key, value in names.items():
        text = text.replace("{{" + key + "}}", value)
    lines = text.split("\n")
    ours = (f"from {names['module']}", "from trainloop")
    start = next((i for i, line in enumerate(lines) if line.startswith(ours)), 0)
    end = start
    while lines[end].startswith(ours):
        end += 1
    lines[start:end] = sorted(lines[start:end], key=lambda line: line.split()[1])
    return "\n".join(lines)


def _check_name(name: str, module: str, root: Path) -> None:
    """LabError unless a package may be called so here."""
    check(
        re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) is not None
        and len(name) <= LONGEST_NAME,
        f"{name!r} is no name for a project: small letters, digits and single hyphens, beginning "
        f"with a letter, at most {LONGEST_NAME} of them",
    )
    projects = project_folders()
    taken = {*projects, *map(module_name, projects), "trainloop"}
    check(not {name, module} & taken, f"there is a project {name!r} already: choose another name")
    is_python = keyword.iskeyword(module) or module in sys.stdlib_module_names
    check(not is_python, f"{name!r} means something in Python: choose another name")
    lock = root / "uv.lock"
    locked = lock.is_file() and f'\nname = "{name}"\n' in lock.read_text("utf-8")
    check(
        not locked and importlib.util.find_spec(module) is None,
        f"{name!r} is a package that this lab depends on, or its module: choose another name",
    )


def _free_number(wanted: int | None) -> int:
    """The number of the new phase; LabError where there is none left, or the one is taken."""
    folders = (folder.name.partition("_")[0] for folder in project_folders().values())
    taken = {int(prefix) for prefix in folders if prefix.isdigit()}
    if wanted is not None:
        check(0 <= wanted <= 99, f"--number must be 0 to 99, not {wanted}")
        check(wanted not in taken, f"--number {wanted} is taken: choose another one")
        return wanted
    last = max(taken, default=-10)
    candidates: Iterable[int] = (last // 10 * 10 + 10, *range(last + 1, 100), *range(100))
    for number in candidates:
        if number <= 99 and number not in taken:
            return number
    raise LabError("there are a hundred projects: take one away first")


def _with_member(text: str, names: dict[str, str]) -> str:
    """The root pyproject.toml with the project in its two lists."""
    lists = {
        r"(reinstall-package = \[\n(?:.*\n)*?)(?=\])": f'    "{names["project"]}",\n',
        r"(--jaxtyping-packages=[\w,]*,)(?=beartype\.beartype)": f"{names['module']},",
    }
    for pattern, addition in lists.items():
        text, found = re.subn(pattern, lambda m, new=addition: m[1] + new, text, count=1)
        words = re.search(r"[\w-]{5,}", pattern)[0]
        check(found == 1, f"the root pyproject.toml has no {words} list as `lab new` knows it")
    return text


def _with_section(text: str, names: dict[str, str], boxes: list[str]) -> str:
    """ROADMAP.md with a section for the project: the last one, but for houdini's."""
    section = (
        f"## {names['number']} · {names['title']} (`{names['project']}`)\n\n"
        "**Goal.** Say what one is able to answer after this phase.\n"
        "**Scope.** To begin with: a small convolutional net on 1,797 real digits.\n\n"
    )
    first, houdini, rest = text.partition("\n## Houdini ")
    return f"{first.rstrip()}\n\n{section}" + "\n".join(boxes) + f"\n{houdini}{rest}"


def _text(path: Path) -> str:
    check(path.is_file(), f"{path} is missing: run this in a clone of the lab")
    return path.read_text("utf-8")
