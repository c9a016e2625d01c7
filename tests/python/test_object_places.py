"""Objects of every class at every place: unnamed, named, in a segment; and places that are in use.

Contradictory arguments: test_object_arguments.py.
"""

import os
from contextlib import closing

import shmkit
from conftest import OTHER_USER, refused
from nouns import ROWS, assert_same, classes, use
from shmkit import Lock, SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
CORRUPT = -21


def other_than(noun):
    """Return the row of an object of another kind."""
    return next(row for row in ROWS if row.noun != noun.noun)


def test_every_class_has_a_row():
    assert {row.kind for row in ROWS} == classes()


# --- unnamed and named ------------------------------------------------------------------------------------------------


def test_object_works_at_every_place(one):
    assert_same(one, one)


def test_object_without_arguments_has_no_name(noun):
    with closing(noun.kind(*noun.arguments())) as one:
        assert (one.name, one.offset) == (None, None)
        assert_same(one, one)
        assert SharedMemory.names() == []


def test_named_object_is_created_and_opened(noun, name, path):
    refused(FileNotFoundError, NOT_FOUND, noun.make, name=name, create=False)
    with closing(noun.make(name=name, create=True)) as made:
        assert (made.name, made.offset) == (name, None)
        assert SharedMemory.names() == [name]
        assert path.stat().st_mode & 0o7777 == 0o600
        refused(FileExistsError, EXISTS, noun.make, name=name, create=True)
        with closing(noun.make(name=name)) as one, closing(noun.make(name=name, create=False)) as other:
            assert_same(made, one)
            assert_same(one, other)
        made.unlink()


def test_create_none_creates_or_opens_a_name(noun, name):
    with closing(noun.make(name=name)) as one:
        assert SharedMemory.names() == [name]
        one.unlink()


def test_leading_slash_is_ignored(noun, name):
    with closing(noun.make(name=name)) as one, closing(noun.make(name="/" + name, create=False)) as other:
        assert one.name == other.name == name
        assert_same(one, other)
        one.unlink()


def test_name_may_have_255_bytes(noun):
    with closing(noun.make(name="n" * 255)) as one:
        assert one.name == "n" * 255
        one.unlink()


def test_file_is_created_in_the_given_directory(noun, name, tmp_path):
    for directory in (tmp_path, str(tmp_path), bytes(tmp_path)):
        with closing(noun.make(name=name, directory=directory)) as one:
            assert (tmp_path / name).is_file()
            refused(FileNotFoundError, NOT_FOUND, noun.make, name=name, create=False)
            one.unlink()
            assert not (tmp_path / name).exists()
    refused(FileNotFoundError, NOT_FOUND, noun.make, name=name, directory=tmp_path / "none")


def test_mode_does_not_depend_on_the_umask(noun, name, path):
    before = os.umask(0o077)
    try:
        for mode in (0o600, 0o640, 0o666, 0o777):
            with closing(noun.make(name=name, mode=mode)) as one:
                assert path.stat().st_mode & 0o7777 == mode
                one.unlink()
    finally:
        os.umask(before)


def test_participants_may_be_1_to_4096(noun, name):
    for participants in (1, 9, 4096):
        with closing(noun.make(name=name, participants=participants)) as one:
            assert_same(one, one)
            one.unlink()


def test_unnamed_objects_share_a_descriptor(noun):
    if noun.own_file:
        return
    before = len(os.listdir("/proc/self/fd"))
    many = [noun.make() for _ in range(500)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    unused = many[0].stat()
    use(many[77])
    assert [each for each in range(500) if many[each].stat() != unused] == [77]


# --- in a segment -----------------------------------------------------------------------------------------------------


def test_placed_object_is_created_and_opened(noun, shm):
    end = 192 + noun.size
    refused(FileNotFoundError, NOT_FOUND, noun.make, segment=shm, offset=192, create=False)
    one = noun.make(segment=shm, offset=192)
    assert (one.name, one.offset) == (None, 192)
    assert bytes(shm.buf[192:196]) == noun.number.to_bytes(4, "little")
    assert_same(one, one)
    refused(FileExistsError, EXISTS, noun.make, segment=shm, offset=192, create=True)
    refused(FileNotFoundError, NOT_FOUND, noun.make, segment=shm, offset=end, create=False)
    same, beside = noun.make(segment=shm, offset=192, create=False), noun.make(segment=shm, offset=end, create=True)
    unused = beside.stat()
    assert_same(one, same)
    assert beside.stat() == unused
    for each in (one, same, beside):
        each.close()
    assert not any(shm.buf[:192])
    assert not any(shm.buf[end + noun.size :])


def test_object_keeps_its_segment(noun, shm):
    one, same = (noun.make(segment=shm, offset=0) for _ in range(2))
    shm.close()
    assert_same(one, same)
    for each in (one, same):
        each.close()


def test_offset_beyond_the_segment_is_refused(noun, shm):
    last = shm.size - noun.size
    for offset in (last + 64, shm.size, 1 << 40, 1 << 63, (1 << 64) - 64):
        for create in (None, True):
            refused(ValueError, INVALID, noun.make, segment=shm, offset=offset, create=create, match="inside the segme")
    for offset in (shm.size, 1 << 40, (1 << 64) - 64):
        refused(ValueError, INVALID, noun.make, segment=shm, offset=offset, create=False)
    for offset in (-1, -64, 1 << 64, 1 << 70, -(1 << 70)):
        refused(ValueError, INVALID, noun.make, segment=shm, offset=offset, match="inside the segment")
    assert not any(shm.buf)
    noun.make(segment=shm, offset=last).close()


def test_misaligned_offset_is_refused(noun, shm):
    for offset in (1, 8, 63, 65, 1000):
        for create in (None, True, False):
            refused(ValueError, INVALID, noun.make, segment=shm, offset=offset, create=create)
        refused(ValueError, INVALID, noun.make, segment=shm, offset=offset, match="multiple of 64")
    assert not any(shm.buf)


def test_offset_in_a_grown_segment_is_accepted(noun):
    with SharedMemory(create=True, size=64, anonymous=True, managed=True, capacity=1 << 20) as shm:
        refused(ValueError, INVALID, noun.make, segment=shm, offset=1 << 16)
        shm.resize(1 << 18)
        with closing(noun.make(segment=shm, offset=1 << 16)) as one:
            assert_same(one, one)


def test_built_in_lock_is_the_lock_of_its_segment(shm):
    with closing(Lock(segment=shm)) as one, closing(Lock(segment=shm, create=False)) as other:
        assert (one.name, one.offset) == (None, None)
        assert_same(one, shm.lock)
        assert_same(other, shm.lock)
        refused(FileExistsError, EXISTS, Lock, segment=shm, create=True)
        refused(ValueError, INVALID, Lock, segment=shm, transferable=True, match="built in")


def test_other_classes_are_not_built_in(noun, shm):
    if noun.kind is not Lock:
        refused(ValueError, INVALID, noun.make, segment=shm, match="pass offset")


def test_built_in_lock_needs_an_open_writable_managed_segment(shm):
    with SharedMemory(create=True, size=4096, anonymous=True) as plain:
        refused(ValueError, WRONG_KIND, Lock, segment=plain)
    with SharedMemory(shm.name, readonly=True) as reader:
        refused(PermissionError, PERMISSION, Lock, segment=reader)
        refused(PermissionError, PERMISSION, lambda: reader.lock)
    refused(ValueError, CLOSED, Lock, segment=reader, match="closed")
    refused(ValueError, CLOSED, lambda: reader.lock, match="closed")


# --- places in use ----------------------------------------------------------------------------------------------------


def test_options_must_match_an_existing_object_unless_create_is_false(noun, name, shm):
    for how in ({"name": name}, {"segment": shm, "offset": 0}):
        place = {"name": shm.name + ".object"} if "name" in how else how
        with closing(noun.make(**place)) as one:
            for other in noun.contradictions:
                refused(ValueError, INVALID, noun.make, **place, **other)
                with closing(noun.make(**place, **other, create=False)) as same:  # create=False ignores them
                    assert_same(one, same)
            one.unlink()


def test_object_of_another_kind_is_refused(noun, name, shm):
    other = other_than(noun)
    with closing(other.make(name=name + ".other")) as one:
        for create in (None, False):
            refused(ValueError, WRONG_KIND, noun.make, name=one.name, create=create)
        refused(FileExistsError, EXISTS, noun.make, name=one.name, create=True)
        one.unlink()
    with closing(noun.make(name=name + ".own")) as one:
        refused(ValueError, WRONG_KIND, SharedMemory, one.name)
        one.unlink()
    with closing(other.make(segment=shm, offset=0)):
        for create in (None, False):
            refused(ValueError, WRONG_KIND, noun.make, segment=shm, offset=0, create=create)
        refused(FileExistsError, EXISTS, noun.make, segment=shm, offset=0, create=True)


def test_plain_segment_is_refused(noun, name):
    with SharedMemory(name, create=True, size=1 << 17) as plain:
        plain_bytes = bytes(plain.buf)
        for create in (None, True, False):
            refused(ValueError, WRONG_KIND, noun.make, segment=plain, offset=64, create=create)
        for create in (None, False):
            refused(ValueError, WRONG_KIND, noun.make, name=name, create=create)
        assert bytes(plain.buf) == plain_bytes
        plain.unlink()


def test_segment_is_not_opened_as_an_object(noun, shm):
    for create in (None, False):
        refused(ValueError, WRONG_KIND, noun.make, name=shm.name, create=create)


def test_readonly_segment_is_refused(noun, shm):
    with SharedMemory(shm.name, readonly=True) as reader:
        refused(PermissionError, PERMISSION, noun.make, segment=reader, offset=64)
        noun.make(segment=shm, offset=64).close()
        refused(PermissionError, PERMISSION, noun.make, segment=reader, offset=64, create=False)


def test_closed_segment_is_refused(noun, name):
    with SharedMemory(name, create=True, size=1 << 17, managed=True) as shm:
        shm.unlink()
    for create in (None, True, False):
        refused(ValueError, CLOSED, noun.make, segment=shm, offset=64, create=create, match="closed")
    refused(ValueError, CLOSED, noun.make, segment=SharedMemory.__new__(SharedMemory), offset=64)


def test_other_bytes_are_refused_and_kept(noun, shm):
    word = shm.view("Q")[8:9]
    for word[0] in (1, 99, 0x0102_0304_0506_0708, 1 << 63):
        before = word[0]
        for create in (None, False):
            refused(ValueError, WRONG_KIND, noun.make, segment=shm, offset=64, create=create, match="at offset 64")
        refused(FileExistsError, EXISTS, noun.make, segment=shm, offset=64, create=True)
        assert word[0] == before
    word[0] = 0
    noun.make(segment=shm, offset=64).close()


def test_truncated_file_is_corrupt(noun, name, path):
    noun.make(name=name).close()
    os.truncate(path, 4096)
    for create in (None, False):
        refused(shmkit.Corrupt, CORRUPT, noun.make, name=name, create=create)
    path.unlink()


def test_symbolic_link_is_refused(noun, name, path):
    path.symlink_to("nowhere")
    for create in (None, False):
        refused(PermissionError, UNTRUSTED, noun.make, name=name, create=create)
    refused(FileExistsError, EXISTS, noun.make, name=name, create=True)
    path.unlink()


# --- permission and space ---------------------------------------------------------------------------------------------


def test_file_of_another_user_needs_trust_and_permission(name, path, as_other_user):
    """Three objects of each class: private, open to all users, and created by the other user."""
    code = """
        import os, sys
        from contextlib import closing
        from nouns import ROWS, use
        become_other_user()
        def status(call, **how):
            try:
                call(**how).close()
            except PermissionError as error:
                return error.status
        for number, noun in enumerate(ROWS):
            private, public, foreign = (f"{sys.argv[1]}-{what}-{number}" for what in ("private", "public", "foreign"))
            print(status(noun.make, name=private), status(noun.make, name=private, create=False, trust=True))
            print(status(noun.make, name=public), status(noun.make, name=public, create=False))
            with closing(noun.make(name=public, trust=True)) as one:
                use(one)
            noun.make(name=foreign, mode=0o666).close()
        print("made", flush=True)
        sys.stdin.read(1)
        for number in range(len(ROWS)):
            os.unlink(os.environ["SHMKIT_DIR"] + f"/{sys.argv[1]}-foreign-{number}")
    """
    made = []
    for number, noun in enumerate(ROWS):
        made.append(noun.make(name=f"{name}-private-{number}"))
        made.append(noun.make(name=f"{name}-public-{number}", mode=0o666))
    unused = [one.stat() for one in made]
    with as_other_user.start(code, name) as process:
        lines = [process.stdout.readline() for _ in range(2 * len(ROWS) + 1)]
        assert lines == [f"{PERMISSION} {PERMISSION}\n", f"{UNTRUSTED} {UNTRUSTED}\n"] * len(ROWS) + ["made\n"]
        for number, noun in enumerate(ROWS):
            foreign = f"{name}-foreign-{number}"
            for create in (None, False):
                how = {"name": foreign, "create": create, "match": f"belongs to user {OTHER_USER}"}
                refused(PermissionError, UNTRUSTED, noun.make, **how)
            with closing(noun.make(name=foreign, trust=True)) as one:
                assert_same(one, one)
        assert process.communicate("x") == ("", "")
    used = [one.stat() != before for one, before in zip(made, unused)]
    assert used == [False, True] * len(ROWS)
    for one in made:
        one.unlink()
        one.close()


def test_readonly_file_is_refused(name, path, as_other_user):
    code = """
        import sys
        from nouns import ROWS
        become_other_user()
        for number, noun in enumerate(ROWS):
            try:
                noun.make(name=f"{sys.argv[1]}-{number}", create=False, trust=True)
            except PermissionError as error:
                print(error.status)
    """
    made = [noun.make(name=f"{name}-{number}", mode=0o444) for number, noun in enumerate(ROWS)]
    assert as_other_user(code, name).out == f"{PERMISSION}\n" * len(ROWS)
    for one in made:
        one.unlink()
        one.close()


def test_full_file_system_is_an_error(name, on_small_file_system):
    """Unnamed objects need no space in this file system."""
    code = """
        import sys
        from nouns import ROWS, use
        from shmkit import SharedMemory, limits
        fill = SharedMemory("fill", create=True, size=limits().directory_free)
        for noun in ROWS:
            for create in (None, True):
                try:
                    noun.make(name=sys.argv[1], create=create)
                except OSError as error:
                    print(error.errno, error.status, SharedMemory.names())
            use(noun.make())
        fill.unlink()
        fill.close()
        for noun in ROWS:
            one = noun.make(name=sys.argv[1])
            use(one)
            one.unlink()
            one.close()
    """
    assert on_small_file_system(code, name).out == "28 -8 ['fill']\n" * 2 * len(ROWS)
