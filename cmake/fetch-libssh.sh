#!/bin/sh
# Brings libssh's source tarball into the cache, through the machine's own Debian package client.
#
#   fetch-libssh.sh VERSION SHA256 OUTPUT SUITE...
#
# Works in a private directory: no file of the machine's package client is read for anything but its mirror's address,
# and none is written. Says on stderr what it tried. Exit status: 0 fetched, 1 not available, 3 wrong hash.
set -u

version=$1 sha256=$2 output=$3
shift 3

work=$(mktemp -d "${output%/*}/fetch.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

say() { echo "$*" >&2; }

accept() { # FILE ORIGIN: the only way into the cache
    actual=$(sha256sum "$1" | cut -d ' ' -f 1)
    if [ "$actual" != "$sha256" ]; then
        say "libssh $version from $2 has the wrong hash:"
        say "  expected sha256 $sha256"
        say "  received sha256 $actual"
        exit 3
    fi
    mv "$1" "$output" && exit 0
    exit 1
}

# Every address that the machine fetches packages from: lines of one-line files, URIs of deb822 files.
addresses() {
    {
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
            [ -r "$file" ] || continue
            sed -n 's/#.*//; s/^[[:space:]]*deb\(-src\)\{0,1\}[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}\([^[:space:]]*\).*/\3/p' "$file"
        done
        for file in /etc/apt/sources.list.d/*.sources; do
            [ -r "$file" ] || continue
            sed -n 's/^[Uu][Rr][Ii][Ss]:[[:space:]]*//p' "$file" | tr -s '[:blank:]' '\n'
        done
    } | grep -v -e security -e '^$' | awk '!seen[$0]++'
}

# Those that look like Debian's main archive or a mirror list of it; a private proxy may have any name, so else all.
mirrors() {
    addresses | grep -e '/debian/\{0,1\}$' -e '/debian\.list$' || addresses
}

# The package client, in a directory of its own. A frozen mirror's index may be past its date; what counts is the hash
# of the tarball.
private() { # DIR TOOL ARGUMENT...
    own=$1 tool=$2
    shift 2
    "$tool" -o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts="$own/parts" \
        -o Dir::State::lists="$own/lists" -o Dir::State::status="$own/status" -o Dir::Cache="$own/cache" \
        -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false -o Acquire::Retries=2 \
        -o Acquire::http::Timeout=60 -o Acquire::Languages=none "$@"
}

from_suite() { # MIRROR SUITE
    dir=$work/$2
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/parts" "$dir/out" || return 1
    : >"$dir/status"
    signed=
    for keyring in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
        [ -r "$keyring" ] && signed="[signed-by=$keyring] " && break
    done
    echo "deb-src $signed$1 $2 main" >"$dir/sources.list"
    private "$dir" apt-get -q update >"$dir/log" 2>&1 || { sed 's/^/  /' "$dir/log" >&2; return 1; }
    carried=$(private "$dir" apt-cache showsrc libssh 2>/dev/null | sed -n 's/^Version: //p')
    full=$(echo "$carried" | grep -e "^$version-" | head -n 1)
    if [ -z "$full" ]; then
        say "  $2 carries libssh $(echo "$carried" | tr '\n' ' ')and not $version"
        return 1
    fi
    (cd "$dir/out" && private "$dir" apt-get -q --download-only --tar-only source "libssh=$full") \
        >>"$dir/log" 2>&1 || { sed 's/^/  /' "$dir/log" >&2; return 1; }
    for tarball in "$dir"/out/libssh_*.orig.tar.*z; do
        [ -f "$tarball" ] && accept "$tarball" "Debian $2 (package $full)"
    done
    return 1
}

if command -v apt-get >/dev/null 2>&1; then
    found=no
    for mirror in $(mirrors); do
        found=yes
        for suite in "$@"; do
            say "libssh $version: trying Debian $suite from this machine's mirror"
            from_suite "$mirror" "$suite"
        done
    done
    [ $found = yes ] || say "libssh $version: no Debian mirror in /etc/apt (sources.list, sources.list.d)"
else
    say "libssh $version: this machine has no apt-get"
fi

if [ -n "${PARLEY_LIBSSH_URL:-}" ]; then
    say "libssh $version: trying PARLEY_LIBSSH_URL"
    url=$(echo "$PARLEY_LIBSSH_URL" | sed "s/@VERSION@/$version/g")
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --retry 2 -o "$work/url" "$url" && accept "$work/url" "$url"
    elif command -v wget >/dev/null 2>&1; then
        wget -q -O "$work/url" "$url" && accept "$work/url" "$url"
    else
        say "  neither curl nor wget is installed"
    fi
fi
exit 1
