#!/bin/sh
# Builds and runs programs with the files that `make install` installed in PREFIX, with pkg-config and with CMake.
#
#   VERSION=… SERIES=… SONAME=… CC=… sh tests/install/test.sh PREFIX WORK [static-only]
#
# static-only: PREFIX contains the static library and no shared library.
set -eu
prefix=$1 work=$2 only=${3-}
sources=$(cd "$(dirname "$0")/.." && pwd)
program=$sources/c/test_segment.c
warnings='-std=c11 -Wall -Wextra -Wpedantic -Werror'
rm -rf "$work"
mkdir -p "$work"

fail() {
	echo "$1"
	exit 1
}

# Prints the path of the libshmkit that a program loads, or nothing if the program loads none.
loaded() {
	ldd "$1" 2>/dev/null | sed -n 's/.*libshmkit\.so.* => \([^ ]*\) .*/\1/p'
}

runs_shared() {
	[ "$(loaded "$1")" = "$prefix/lib/$SONAME" ] || fail "$1 loads '$(loaded "$1")', not $prefix/lib/$SONAME"
	"$1"
}

runs_static() {
	[ -z "$(loaded "$1")" ] || fail "$1 loads $(loaded "$1")"
	"$1"
}

if command -v pkg-config >/dev/null; then
	export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
	found=$(pkg-config --modversion shmkit)
	[ "$found" = "$VERSION" ] || fail "pkg-config finds $found, not $VERSION"
	if [ -z "$only" ]; then
		$CC $warnings -o "$work/shared" "$program" $(pkg-config --cflags --libs shmkit) -Wl,-rpath,"$prefix/lib" -lpthread
		runs_shared "$work/shared"
		# The linker prefers the shared library, even with pkg-config --static; -Bstatic selects the archive.
		$CC $warnings -o "$work/archive" "$program" \
			-Wl,-Bstatic $(pkg-config --cflags --libs shmkit) -Wl,-Bdynamic -lpthread -ldl -lm
		runs_static "$work/archive"
	else
		$CC $warnings -o "$work/archive" "$program" $(pkg-config --static --cflags --libs shmkit)
		runs_static "$work/archive"
	fi
	echo 'int main(void) { return 0; }' >"$work/empty.c"
	if $CC -static -o "$work/empty" "$work/empty.c" 2>/dev/null; then
		# The linker warns about functions of the C library that the archive contains and shmkit does not call.
		$CC $warnings -static -o "$work/static" "$program" $(pkg-config --static --cflags --libs shmkit) \
			2>"$work/static.log" || fail "$(cat "$work/static.log")"
		runs_static "$work/static"
	else
		echo 'SKIPPED: -static, because there is no static C library'
	fi
else
	echo 'SKIPPED: pkg-config is not installed (Debian: apt install pkgconf)'
fi

if command -v cmake >/dev/null; then
	libraries=${only:+shmkit-static}
	CC=$CC cmake -S "$sources/install" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DSERIES="$SERIES" \
		-DVERSION="$VERSION" -DLIBRARIES="${libraries:-shmkit;shmkit-static}" >"$work/cmake.log" ||
		fail "$(cat "$work/cmake.log")"
	cmake --build "$work/cmake" >"$work/cmake.log" || fail "$(cat "$work/cmake.log")"
	[ -n "$only" ] || runs_shared "$work/cmake/shmkit"
	runs_static "$work/cmake/shmkit-static"
else
	echo 'SKIPPED: cmake is not installed (Debian: apt install cmake)'
fi
