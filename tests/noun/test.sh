#!/usr/bin/env bash
# Checks that docs/adding-a-noun.md is complete. In a copy of the tree it adds a tenth noun, which is the event under
# another name: one line in the list, and the files that the guide names. Then the library, its header, the pxds and the
# Python package must contain the noun, and the tests must name the places that are left to edit.
#
# usage: tests/noun/test.sh FOLDER      a folder for the copy and its build files
set -euo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mkdir -p "$1" && cd "$1" && pwd)/tree
export CARGO_TARGET_DIR=$copy/../build
rm -rf "$copy"
mkdir -p "$copy"
(cd "$tree" && tar -cf - --exclude=./target --exclude=./.git --exclude=__pycache__ .) | tar -C "$copy" -xf -
cd "$copy"

renamed() { sed 's/event/gate/g; s/Event/Gate/g; s/EVENT/GATE/g' "$1"; }

# 1. Add one line to the list.
sed -i 's/^event .*/&\ngate         Gate         object      a gate/' src/capi/objects.txt

# 2. Add the files of the noun, and declare them on each floor.
for file in src/raw/event.rs src/object/event.rs src/capi/event.rs cython/shmkit/event.{pyx,pxd,pyi} tests/event.rs \
            tests/c/test_event.c tests/python/test_event.py tests/crash/core/event.rs tests/fuzz/fuzz_targets/event.rs; do
  renamed "$file" > "${file/event/gate}"
done
sed -i 's/^pub mod event;/&\npub mod gate;/' src/raw/mod.rs src/object/mod.rs src/capi/mod.rs
sed -i '/^pub use object::/s/event, /event, gate, /' src/lib.rs
sed -i 's/^    Event = 7, .*/&\n    Gate = 17, "a Gate";/' src/layout.rs
sed -i 's/^from .event import .*/&\nfrom .gate import Gate, GateInfo/' cython/shmkit/__init__.py
sed -i 's/^from .event import EventInfo as EventInfo/&\nfrom .gate import Gate as Gate/' cython/shmkit/__init__.pyi

# 3. The whole life cycle must exist in Rust and in the generated files.
SHMKIT_BLESS=1 cargo build --quiet --locked --lib
SHMKIT_BLESS=1 cargo test --quiet --locked --test generated >/dev/null 2>&1 || true
symbols=$(nm -D --defined-only "$CARGO_TARGET_DIR/debug/libshmkit.so")
for verb in size create open open_or_create create_at open_at open_fd fd segment unlink close; do
  grep -q "^shmkit_status shmkit_gate_$verb(" include/shmkit.h || { echo "the header has no shmkit_gate_$verb"; exit 1; }
  [[ $symbols == *" shmkit_gate_$verb"* ]] || { echo "the library has no shmkit_gate_$verb"; exit 1; }
done
grep -q '_INDEX\["gate"\]' cython/shmkit/_calls.pxi
grep -q 'call_wait' cython/shmkit/gate.pxi

# 4. The tests must name the places that are left, which are exactly those of the table in the guide.
left=$({ cargo test --quiet --locked --test floors a_file_that_lists_the_nouns 2>&1 || true; } |
  sed -n 's/^ *"\(.*\) lacks gate",$/\1/p' | sort)
expected=$(sed -n 's/^| `\([^`]*\)` .*/\1/p' docs/adding-a-noun.md | sort)
diff <(echo "$expected") <(echo "$left") || { echo 'docs/adding-a-noun.md and the tests name different places'; exit 1; }
echo 'A tenth noun needs one line in the list and its own files.'
