"""Checks the language of every tracked text file; `python tests/python/support/prose.py [PATH ...]` lists the faults.

The rules are those of CONTRIBUTING.md. tests/prose.txt lists the exceptions.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
EXCEPTIONS = ROOT / "tests" / "prose.txt"

SKIPPED = {"Cargo.lock", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT", "prose.py", "prose.txt", "test_prose.py"}
"""Names of files that others worded, or that contain the rules and samples that break them."""

MAX_WORDS = 40
"""Words in the longest sentence that passes; the aim is 25."""

HEADER_COLUMNS = 100
"""Columns in the longest line of the C header."""

BANNED = re.compile(
    r"\b(who|whoever|whom|somebody|someone|nobody|anybody|everybody|to be had|in vain|let(s|ting)? go|"
    r"g(ive|ives|iving|ave|iven) back|stands|stood|tells|told|says|said|com(es?|ing) by|for ever|"
    r"at the (most|least|latest)|so manieth)\b",
    re.IGNORECASE,
)
"""Words that make a person of a role, and verbs that the API does not have."""

STATES = {"Timeout", "WouldBlock", "Interrupted", "Empty", "Full", "Broken", "ShutDown", "Closed", "Internal"}
"""Errors that report a state that the caller handles. Their message names the object; the status is the remedy."""

REMEDY = re.compile(
    r"\bmust\b|[;:] (please )?(acquire|add|ask|call|catch|check|choose|close|copy|create|enter|exclude|fill|free|get|"
    r"give|grow|increase|keep|leave|lower|make|mount|move|notify|omit|open|pass|pick|put|raise|read|rebuild|recreate|"
    r"reduce|release|remove|reopen|report|reset|restart|retry|run|send|set|start|stop|unlink|upgrade|use|wait|write)\b"
)
"""What an error message ends with: the rule that was broken, or an imperative."""


class Fault(NamedTuple):
    """A place in a file that breaks a rule."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


class Allowed(NamedTuple):
    """An exception: a fault in this file whose text contains these words."""

    path: str
    words: str

    def covers(self, fault):
        """Return whether this exception allows the fault."""
        return fault.path == self.path and self.words in fault.text


def tracked():
    """Return the paths of all tracked text files, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    files = (ROOT / name for name in listed.split("\0") if name)
    return sorted(path for path in files if path.name not in SKIPPED and path.is_file())


# --- prose ------------------------------------------------------------------------------------------------------------


class Text(NamedTuple):
    """A run of prose lines of one comment, docstring or paragraph."""

    line: int
    words: str


def paragraphs(lines):
    """Join numbered lines of prose into paragraphs; an item, a table row or another indent begins a new one."""
    found, start, indent, parts = [], 0, 0, []

    def end():
        if parts:
            found.append(Text(start, " ".join(parts)))
            parts.clear()

    for number, line in lines:
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        item = re.match(r"([-*+#>|]|\d+[.)]|:param|@\w+|SHMKIT_\w+ {2})", text)
        if not text or item or depth != indent:
            end()
        if not text or set(text) <= set("-=+|: *"):
            continue
        if text.startswith("|"):
            found.extend(Text(number, cell) for cell in text.strip("|").split("|"))
            continue
        if not parts:
            start = number
        # The lines of an item hang below its text.
        indent = depth + (len(item.group()) + 1 if item and not text.startswith("SHMKIT") else 0)
        parts.append(text[len(item.group()) :].strip() if item and item.group()[0] in "-*+#>" else text)
        if re.search(r"\S {2,}\S", text):  # columns, not prose
            end()
    end()
    return found


def comments(lines, mark):
    """Return the paragraphs of line comments; code between two comments ends a paragraph."""
    found = []
    for number, line in enumerate(lines, 1):
        match = re.search(rf"(?:^|\s)(?:{mark})(.*)$", line)
        alone = match and not line[: match.start()].strip()
        if match and not alone:
            found.append((number, ""))
        found.append((number, match.group(1) if match else ""))
        if match and not alone:
            found.append((number, ""))
    return paragraphs(found)


def blocks(lines, begin, end):
    """Return the paragraphs of block comments or docstrings."""
    found, inside = [], False
    for number, line in enumerate(lines, 1):
        text = line
        if not inside:
            match = re.search(begin, text)
            if not match:
                found.append((number, ""))
                continue
            inside, text = True, " " * match.start() + text[match.end() :]
        match = re.search(end, text)
        if match:
            inside, text = False, text[: match.start()]
        if re.match(r"\s*(>>>|\.\.\. )", text) or re.match(r" \*   ", text):  # an example
            text = ""
        found.append((number, re.sub(r"^(\s*)\*(?= |$)", r"\1 ", text)))
        if not inside:
            found.append((number, ""))
    return paragraphs(found)


def without_literals(lines):
    """Return the lines with triple-quoted literals of the code blanked; docstrings stay."""
    kept, inside = [], ""
    for line in lines:
        kept.append("" if inside == "literal" else line)
        if line.count('"""') % 2:
            inside = "" if inside else "docstring" if re.match(r'\s*r?"""', line) else "literal"
    return kept


def markdown(lines):
    """Return the paragraphs of a Markdown file without its code."""
    found, fenced = [], False
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*(```|~~~)", line):
            fenced = not fenced
        found.append((number, "" if fenced or line.lstrip()[:3] in ("```", "~~~") else line))
    return paragraphs(found)


def prose(path, lines):
    """Return the paragraphs of a file by its kind."""
    kind = path.suffix
    if kind == ".md":
        return markdown(lines)
    if kind in (".rs", ".in"):
        return comments(lines, r"//[/!]?")
    if kind in (".c", ".h", ".cpp"):
        return blocks(lines, r"/\*+", r"\*/") + comments(lines, "//")
    if kind == ".pxd":
        return comments(lines, r"#(?!define )")
    if kind in (".py", ".pyx", ".pyi"):
        return blocks(without_literals(lines), r'^\s*r?"""', r'"""') + comments(lines, "#")
    return comments(lines, "#")


def sentences(text):
    """Return the sentences of a paragraph."""
    return re.split(r"(?<=[.?!])[\"')*_`]*\s+(?=[A-Z`\"'(*\[])", text)


# --- error messages ---------------------------------------------------------------------------------------------------


def arguments(text, start):
    """Return what stands between the parenthesis that opens at `start` and its partner."""
    depth, quoted, position = 0, "", start
    while position < len(text):
        letter = text[position]
        if quoted:
            if letter == "\\":
                position += 1
            elif letter == quoted:
                quoted = ""
        elif letter == '"':
            quoted = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : position]
        position += 1
    return text[start + 1 :]


def messages(path, text):
    """Yield the line, the error and the literal text of each error message."""
    if path.suffix == ".rs":
        code = text.split("#[cfg(test)]\nmod ")[0]
        for match in re.finditer(r"\bError::([A-Z]\w+)\(", code):
            literal = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments(code, match.end() - 1), re.DOTALL)
            words = re.sub(r"\\\s*\n\s*", "", " ".join(literal))
            if " " in words:
                yield code[: match.start()].count("\n") + 1, match.group(1), words
    if path.suffix == ".pyx":
        for match in re.finditer(r"(?:make_error|raise \w+Error|\b(text_?) = \()\(?|\b(text_?) = (?=f?\")", text):
            start = match.end() - 1 if text[match.end() - 1] == "(" else match.start()
            inside = arguments(text, start) if text[start] == "(" else text[start : text.index("\n", start)]
            words = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', inside))
            status = re.match(r"SHMKIT_ERR_(\w+)", inside)
            state = status and status.group(1).title().replace("_", "")
            if " " in words:
                yield text[: match.start()].count("\n") + 1, state or "", words


def faults(path):
    """Return the faults of a file."""
    name = path.relative_to(ROOT).as_posix()
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        # The words of an identifier count as well.
        match = BANNED.search(line.replace("_", " "))
        if match:
            found.append(Fault(name, number, f"the word {match.group()!r}", line.strip()))
        if name == "include/shmkit.h" and len(line) > HEADER_COLUMNS:
            found.append(Fault(name, number, f"longer than {HEADER_COLUMNS} columns", line.strip()))
    for paragraph in prose(path, lines):
        for sentence in sentences(paragraph.words):
            count = len(re.findall(r"\w[\w'./*:-]*", sentence))
            if count > MAX_WORDS:
                found.append(Fault(name, paragraph.line, f"a sentence of {count} words", sentence.strip()))
    if name.startswith(("src/", "cython/")):
        for number, error, words in messages(path, text):
            if error not in STATES and not REMEDY.search(words):
                found.append(Fault(name, number, "an error message without a remedy", words))
    return found


def exceptions(text):
    """Return the exceptions of tests/prose.txt: `path: words`, each below a comment with its reason."""
    found, reason = [], False
    for line in text.splitlines():
        if line.startswith("#"):
            reason = True
        elif not line.strip():
            reason = False
        else:
            path, separator, words = line.partition(": ")
            if not (reason and separator and words):
                raise ValueError(f"{EXCEPTIONS.name}: {line!r} must be 'path: words' below a comment with the reason")
            found.append(Allowed(path, words))
    return found


def main(given):
    """Print the faults of the files, or of those below the given paths; return how many there are."""
    below = [Path(path).resolve() for path in given]
    allowed = exceptions(EXCEPTIONS.read_text()) if EXCEPTIONS.exists() else []
    count = 0
    for path in tracked():
        if below and not any(path == place or place in path.parents for place in below):
            continue
        for fault in faults(path):
            if not any(exception.covers(fault) for exception in allowed):
                print(fault)
                count += 1
    print(f"{count} faults")
    return count


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
