"""The language of the tree: the rules of support/prose.py find each fault, and no tracked file has a fault."""

import textwrap

import prose
import pytest
from conftest import ROOT


def check(tmp_path, monkeypatch, name, text):
    """Return the rules that a file of this name and text breaks."""
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return [fault.rule for fault in prose.faults(path)]


LONG = "A" + " a" * 40
SHORT = "A" + " a" * 29

BAD = [
    ("docs/a.md", "The lock goes to whoever asks.\n", "the word 'whoever'"),
    ("src/a.rs", "fn who_waits_is_served() {}\n", "the word 'who'"),
    ("include/a.h", "/* The caller lets it go, lets go. */\n", "the word 'lets go'"),
    ("tests/test_a.py", "def test_nobody_waits(): ...\n", "the word 'nobody'"),
    ("docs/a.md", f"Short. {LONG}. Short.\n", "a sentence of 41 words"),
    ("docs/a.md", f"| cell | {LONG} |\n", "a sentence of 41 words"),
    ("src/a.rs", f"/// {LONG[:40]}\n/// {LONG[40:]}\n", "a sentence of 41 words"),
    ("include/a.h", f"/*\n * {LONG[:40]}\n * {LONG[40:]}\n */\n", "a sentence of 41 words"),
    ("cython/a.pyx", f'def f():\n    """Return it.\n\n    {LONG}\n    """\n', "a sentence of 41 words"),
    ("Makefile", f"# {LONG}\nall:\n", "a sentence of 41 words"),
    ("include/shmkit.h", "/* " + "x" * 98 + " */\n", "longer than 100 columns"),
    ("src/a.rs", 'Err(Error::Invalid("the name is bad".into()))\n', "an error message without a remedy"),
    (
        "src/a.rs",
        'Error::Corrupt(format!(\n    "the queue has \\\n     {count} (too many) messages"\n).into())\n',
        "an error message without a remedy",
    ),
    ("cython/a.pyx", 'raise TypeError(f"{kind} is a base class")\n', "an error message without a remedy"),
    ("cython/a.pyx", 'raise make_error(SHMKIT_ERR_INVALID, "it is bad")\n', "an error message without a remedy"),
    ("cython/a.pyx", 'text = (\n    "it is "\n    "bad"\n)\n', "an error message without a remedy"),
]


@pytest.mark.parametrize(("name", "text", "rule"), BAD, ids=[f"{rule} in {name}" for name, _, rule in BAD])
def test_each_fault_is_found(tmp_path, monkeypatch, name, text, rule):
    assert check(tmp_path, monkeypatch, name, text) == [rule]


GOOD = [
    ("docs/a.md", f"{SHORT}. {SHORT}.\n\n- {SHORT}\n- {SHORT}\n"),
    ("docs/a.md", f"```sh\n{LONG}\n```\n"),
    ("src/a.rs", "/// Returns the owner.\nfn owner() {}\n"),
    ("src/a.rs", 'Err(Error::Timeout("timed out waiting for the lock".into()))\n'),
    ("src/a.rs", 'Err(Error::Invalid(format!("the size must be at most {limit}, not {size}").into()))\n'),
    ("src/a.rs", 'Err(Error::Exists("the lock exists; open it instead".into()))\n'),
    ("src/a.rs", '#[cfg(test)]\nmod tests { fn a() { Error::Invalid("a bad thing".into()); } }\n'),
    ("cython/a.pyx", 'raise make_error(SHMKIT_ERR_TIMEOUT, "timed out waiting for it")\n'),
    ("cython/a.pyx", 'raise TypeError(f"name must be a str, not {kind}")\n'),
]


@pytest.mark.parametrize(("name", "text"), GOOD)
def test_plain_words_pass(tmp_path, monkeypatch, name, text):
    assert check(tmp_path, monkeypatch, name, text) == []


def test_an_exception_needs_a_reason():
    assert prose.exceptions("# A quotation.\ndocs/a.md: Who Framed\n") == [("docs/a.md", "Who Framed")]
    for bad in ("docs/a.md: Who Framed\n", "# A reason.\n\ndocs/a.md: Who Framed\n", "# A reason.\ndocs/a.md\n"):
        with pytest.raises(ValueError, match="must be 'path: words' below a comment"):
            prose.exceptions(bad)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="NOT TESTED: this is not a repository")
def test_the_tree_has_no_fault_and_no_unused_exception():
    allowed = prose.exceptions(prose.EXCEPTIONS.read_text())
    found = [fault for path in prose.tracked() for fault in prose.faults(path)]
    assert [str(fault) for fault in found if not any(one.covers(fault) for one in allowed)] == []
    assert [one for one in allowed if not any(one.covers(fault) for fault in found)] == []
