"""Reads Markdown files: their headings, links and code blocks. CONTRIBUTING.md describes how the blocks are run."""

import re
import subprocess
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]

PROGRAMS = {"python", "cython", "c", "rust"}
"""Languages of blocks that are whole programs."""

FILES = {"cmake", "dockerfile", "ini", "toml", "yaml"}
"""Languages of blocks that are files of a project and cannot run alone."""

LANGUAGES = PROGRAMS | FILES | {"sh", "text"}


def tracked(pattern="*"):
    """Return the paths of the tracked and new files that match a pattern; without git, of all files."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    # git still lists a path that was removed.
    paths = [ROOT / name for name in listed.split("\0") if name]
    if not paths:
        found = [path.relative_to(ROOT) for path in ROOT.rglob(pattern)]
        paths = [ROOT / path for path in found if not any(part[0] == "." or part == "target" for part in path.parts)]
    return sorted(path for path in paths if path.is_file())


class Block(NamedTuple):
    """A fenced block of a Markdown file."""

    section: int  # the number of the second-level section
    line: int
    language: str
    title: str  # of a file of the section's project
    skip: str  # why the block is not run
    code: str


class Page(NamedTuple):
    """What a Markdown file contains."""

    anchors: set
    links: list  # of (line, target)
    blocks: list
    prose: list  # of (line, text), without code blocks


def slug(heading):
    """Return the anchor that a forge gives to a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def attributes(info, line):
    """Return the attributes of an info string such as `c title="main.c"`."""
    given = dict(re.findall(r'(\w+)="([^"]*)"', info))
    rest = re.sub(r'\w+="[^"]*"', "", info).strip()
    if rest or not set(given) <= {"title", "skip"}:
        raise ValueError(f'line {line}: the info string {info!r} must be a language, title="FILE" or skip="REASON"')
    return given


def read(text):
    """Return the page of a Markdown text."""
    page = Page(set(), [], [], [])
    section, fence, code, counts = 0, None, [], {}
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)\s*([^\s`]*)\s*([^`]*)$", line)
        if fence is None and mark:
            fence, start, code = mark, number, []
        elif fence is not None and line.strip() == fence.group(1):
            given = attributes(fence.group(3).strip(), start)
            body = textwrap.dedent("\n".join(code)) + "\n"
            how = (fence.group(2).lower(), given.get("title", ""), given.get("skip", ""))
            page.blocks.append(Block(section, start, *how, body))
            fence = None
        elif fence is not None:
            code.append(line)
        else:
            page.prose.append((number, line))
            heading = re.match(r"(#+) (.+)", line)
            if heading:
                section += len(heading.group(1)) <= 2
                anchor = slug(heading.group(2))
                seen = counts[anchor] = counts.get(anchor, -1) + 1
                page.anchors.add(f"{anchor}-{seen}" if seen else anchor)
            page.anchors.update(re.findall(r'<a (?:id|name)="([^"]+)"', line))
            plain = re.sub(r"`[^`]*`", "", line)
            targets = re.findall(r"\]\(<?([^)>\s]+)", plain) + re.findall(r"^\[[^\]]+\]: <?(\S+?)>?(?:\s|$)", plain)
            page.links.extend((number, target) for target in targets)
    if fence is not None:
        raise ValueError(f"line {start}: the block is not closed")
    return page


class Step(NamedTuple):
    """A block that is run, and the text block that follows it."""

    block: Block
    expected: Block  # None if any output passes


class Unit(NamedTuple):
    """A program, or the files of one section with the scripts that use them."""

    files: list
    steps: list

    @property
    def line(self):
        """Return the line of the first block that is run."""
        return self.steps[0].block.line


def fault(block, before, project):
    """Return why a block breaks the rules of CONTRIBUTING.md, or None; `before` is what runs just before it."""
    if block.language not in LANGUAGES:
        return f"{block.language!r} is none of {', '.join(sorted(LANGUAGES))}"
    if block.skip or block.title or block.language in PROGRAMS:
        return None
    if block.language == "text":
        return None if before else "no program or script precedes this output; give a skip reason"
    if block.language == "sh":
        checked = project or all(re.match(r"make\b|#|$", line) for line in block.code.splitlines())
        return None if checked else "a script needs files with titles in its section, or a skip reason"
    return f"a {block.language} block needs a title or a skip reason"


def units(blocks):
    """Return the units of a page that are run; raise ValueError if a block cannot be run and has no skip reason."""
    programs, projects, before = [], {}, None
    for block in blocks:
        if block.title and not block.skip:
            projects.setdefault(block.section, Unit([], [])).files.append(block)
    for block in blocks:
        project = projects.get(block.section)
        reason = fault(block, before, project)
        if reason:
            raise ValueError(f"line {block.line}: {reason}")
        steps = None
        if block.skip or block.title:
            pass
        elif block.language == "text":
            before.append(Step(before.pop().block, block))
        elif block.language == "sh" and project:
            steps = project.steps
        elif block.language in PROGRAMS:
            programs.append(Unit([], []))
            steps = programs[-1].steps
        if steps is not None:
            steps.append(Step(block, None))
        before = steps
    for project in projects.values():
        if not project.steps:
            raise ValueError(f"line {project.files[0].line}: no script runs the files of this section")
    return sorted([*programs, *projects.values()], key=lambda unit: unit.line)


def matches(expected, printed):
    """Return whether an output is the expected one, in which `...` matches anything."""
    lines = [line.rstrip() for line in expected.strip().splitlines()]
    pattern = r"[\s\S]*?".join(re.escape(part) for part in "\n".join(lines).split("..."))
    actual = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern, actual) is not None


def make_targets(page):
    """Yield the line and the name of each target that a page runs with make."""
    lines = [
        (block.line + number, line)
        for block in page.blocks
        if block.language == "sh"
        for number, line in enumerate(block.code.splitlines(), 1)
    ]
    quoted = [(number, code) for number, line in page.prose for code in re.findall(r"`(make [^`]*)`", line)]
    for number, line in lines + quoted:
        command = re.match(r"make ((?:\S+\s*)+)", line.split("#")[0].strip() + " ")
        for word in command.group(1).split() if command else ():
            if word in ("&&", "|", ";"):
                break
            if re.fullmatch(r"[a-z][\w-]*", word):
                yield number, word
