#!/bin/sh
# Puts pipe @VERSION@ into ~/.local/bin, or for root into /usr/local/bin; PIPE_BIN names another directory.
set -eu

# As a function, so that nothing is done before all of this has come.
main() {
    url=${PIPE_RELEASES:-@URL@} version=@VERSION@
    platform=$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
    case $platform in
@DIGESTS@
    *) fail "there is no pipe $version for $platform" ;;
    esac
    if [ "$(id -u)" = 0 ]; then to=/usr/local/bin; else to=$HOME/.local/bin; fi
    to=${PIPE_BIN:-$to}
    mkdir -p "$to"
    new=$(mktemp -d "$to/.pipe-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    get "$url/$version/pipe-$platform.gz" >"$new/packed" || fail "$url does not give pipe $version"
    echo "$sha256  $new/packed" | sha256sum -c >/dev/null 2>&1 || fail "$url gives other bytes than those of pipe $version"
    gzip -dc "$new/packed" >"$new/pipe"
    chmod 755 "$new/pipe"
    said=$("$new/pipe" --version) || fail "pipe $version does not run here"
    mv -f "$new/pipe" "$to/pipe"
    echo "$said is in $to; \`pipe update\` renews it"
    case ":$PATH:" in
    *":$to:"*) ;;
    *) echo "$to is not in PATH yet" ;;
    esac
}

get() {
    if command -v curl >/dev/null 2>&1; then curl -fsSL "$1"; else wget -qO- "$1"; fi
}

fail() {
    echo "error: $1; nothing was installed" >&2
    exit 1
}

main
