#!/bin/sh
# Checks the units beside this file with systemd's own tools: `verify` has nothing to say, and the
# exposure of the system's service is at most 2.0. Passes where there is no systemd-analyze.
set -eu

units=$(cd "$(dirname "$0")" && pwd)
most=20 # tenths

if ! command -v systemd-analyze >/dev/null; then
    echo "units: not checked, as there is no systemd-analyze here"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

verify() { # FOLDER SCOPE: with another command, as fmedge need not be installed
    mkdir "$work/$2"
    for unit in "$1"/fmedge.service "$1"/fmedge.socket; do
        sed -E 's,^ExecStart=(/usr/bin/)?fmedge ,ExecStart=/bin/true ,' "$unit" \
            >"$work/$2/${unit##*/}"
    done
    said=$(XDG_RUNTIME_DIR="$work" systemd-analyze "--$2" verify --man=no --recursive-errors=no \
        "$work/$2/fmedge.service" "$work/$2/fmedge.socket" 2>&1) || {
        echo "units: systemd-analyze --$2 verify failed: $said" >&2
        exit 1
    }
    if [ -n "$said" ]; then
        echo "units: systemd-analyze --$2 verify said: $said" >&2
        exit 1
    fi
}

verify "$units" system
verify "$units/user" user
exposure=$(systemd-analyze security --offline=true --threshold=$most \
    "$work/system/fmedge.service") || {
    echo "$exposure" | grep '✗' >&2
    echo "units: fmedge.service is exposed more than $((most / 10)).$((most % 10))" >&2
    exit 1
}
echo "units: verified; $(echo "$exposure" | sed -n 's/^[^[:alpha:]]*Overall/overall/p')"
