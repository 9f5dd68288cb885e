#!/usr/bin/env bash
# Makes .venv with djops in it, from the machine's own Python. Says nothing when all is there already.
#   scripts/bootstrap.sh local    what `djops demo` needs
#   scripts/bootstrap.sh dev      and what the tests need
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
case ${1:-local} in
    local) extras=local ;;
    dev) extras=local,aws,dev ;;
    *) echo "usage: scripts/bootstrap.sh [local|dev]" >&2; exit 1 ;;
esac
venv=$root/.venv
log=$(mktemp)
trap 'rm -f "$log"' EXIT
fail() {  # what is wrong, what to do
    printf 'error  %s\n  -> %s\n' "$1" "$2" >&2
    exit 1
}

exec 9<"$root"
flock -w 900 9 ||  # two at once take turns
    fail "another one has been at this for 15 minutes" "see which with \`fuser -v $root\`, and end it"

now() { printf '%s' "${EPOCHREALTIME/[^0-9]/}"; }

step() {  # name, command...: runs it quietly and tells how long it took; shows what it said when it fails
    local name=$1 begun tenths outcome=ok
    shift
    begun=$(now)
    [[ -t 2 ]] && printf '...             %s' "$name" >&2
    "$@" >"$log" 2>&1 </dev/null 9<&- || outcome=failed  # what it leaves running must not keep the lock
    tenths=$((($(now) - begun) / 100000))
    [[ -t 2 ]] && printf '\r\033[K' >&2
    printf '%-6s %3d.%d s  %s\n' "$outcome" $((tenths / 10)) $((tenths % 10)) "$name" >&2
    [[ $outcome == ok ]] || { tail -n 20 "$log" >&2; return 1; }
}

is_root() { [[ $(id -u) -eq 0 ]]; }

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }

apt_install() { apt install -y --no-install-recommends "$@" || { apt update && apt install -y --no-install-recommends "$@"; }; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if new_enough "$name"; then command -v "$name"; return; fi
    done
    return 1
}

fetch_pip_wheels() {  # into $1: pip and setuptools as the distribution ships them, without root
    local folder=$1 private=()
    mkdir -p "$folder/lists/partial" "$folder/archives/partial"
    (
        cd "$folder"
        if ! apt download python3-pip-whl python3-setuptools-whl; then
            # The machine has no package lists (yet): keep some of our own.
            private=(-o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder")
            apt "${private[@]}" update
            apt "${private[@]}" download python3-pip-whl python3-setuptools-whl
        fi
        for package in python3-*-whl_*.deb; do dpkg-deb -x "$package" .; done
    )
}

make_venv_without_ensurepip() {
    local folder wheels
    folder=$(mktemp -d)
    fetch_pip_wheels "$folder"
    wheels=$folder/usr/share/python-wheels
    "$python" -m venv --without-pip "$venv"
    PYTHONPATH=$(echo "$wheels"/pip-*.whl) "$venv/bin/python" -m pip install --quiet --no-index \
        --disable-pip-version-check --find-links "$wheels" pip setuptools
    rm -rf "$folder"
}

make_venv() {
    rm -rf "$venv"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv "$venv"
    elif is_root && [[ $(readlink -f "$python") == /usr/bin/* ]]; then
        apt_install python3-venv
        "$python" -m venv "$venv"
    else
        make_venv_without_ensurepip
    fi
}

install() {
    # Compiling each file when it is first imported is cheaper than compiling all of them now.
    "$venv/bin/python" -m pip install --quiet --no-compile --no-input --disable-pip-version-check \
        -c constraints.txt -e ".[$extras]"
    # DataJoint clients that djops starts write no bytecode, so what they import would be compiled each time.
    "$venv/bin/python" -I -W ignore -c 'import datajoint, s3fs'
}

# Done already? The stamp names everything that the result depends on.
wanted=$({ echo "$root"; cat pyproject.toml constraints.txt scripts/bootstrap.sh; } | sha256sum | cut -d' ' -f1)
stamped() { [[ -x $venv/bin/djops ]] && grep -qsx "$wanted" "$venv/.djops-$1"; }
if stamped "${1:-local}" || { [[ ${1:-local} == local ]] && stamped dev; }; then exit 0; fi

# Without the authorities' certificates nothing can be fetched; where they are, they are the machine's business.
if is_root && [[ ! -e /etc/ssl/certs/ca-certificates.crt ]] && command -v apt-get >/dev/null; then
    step "certificates" apt_install ca-certificates || fail "certificates cannot be installed" "install ca-certificates"
fi
if ! python=$(find_python); then
    is_root && command -v apt-get >/dev/null || fail "there is no Python 3.11 or newer" "install python3"
    step "python3" apt_install python3 python3-venv || fail "Python cannot be installed" "install python3"
    python=$(find_python) || fail "this system's Python is older than 3.11" "install Python 3.11 or newer"
fi
if ! grep -qsx "$root" "$venv/.djops-place" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    step "python environment in .venv" make_venv ||
        fail "no Python environment can be made" "install python3-venv"
    echo "$root" >"$venv/.djops-place"
fi
step "python packages" install || fail "the Python packages cannot be installed" "see above, then run it again"
echo "$wanted" >"$venv/.djops-${1:-local}"
