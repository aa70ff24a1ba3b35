# shellcheck shell=bash
# What ./run, ./test and ./check share: how everything is installed. Sourced, with the project as the working directory.
set -euo pipefail
unset PYTHONPATH PYTHONHOME # a path from elsewhere would come before the project's own packages
export PYTHONNOUSERSITE=1
# uv brings certificates of its own; a machine's may know a proxy that those do not.
[[ ! -e /etc/ssl/certs/ca-certificates.crt ]] || export UV_SYSTEM_CERTS=1

say() { printf 'rlmweb: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# quietly COMMAND…: what it prints is shown only where it fails.
quietly() {
    local output status=0
    output=$("$@" 2>&1 </dev/null) || status=$?
    ((status == 0)) || printf '%s\n' "$output" >&2
    return $status
}

# as_root COMMAND…: as it is for root, through sudo for others; asks for a password only where somebody can type it.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif ! command -v sudo >/dev/null; then
        return 1
    elif sudo -n true 2>/dev/null; then
        sudo "$@"
    elif [[ -t 0 ]] && { : >/dev/tty; } 2>/dev/null; then
        say "sudo may ask for your password: $*"
        sudo -v </dev/tty && sudo "$@"
    else
        return 1
    fi
}

# apt_install PACKAGE…: Debian packages; where that is not possible, the one command to type.
apt_install() {
    (($#)) || return 0
    local sudo=""
    ((EUID == 0)) || sudo="sudo "
    command -v apt-get >/dev/null ||
        fail "this needs $* (the names of Debian's packages), and there is no apt-get here: install them in this system's way, then type the same command again"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends "$@")
    as_root true || fail "this needs $*, which only an administrator can install. Type: ${sudo}apt-get install $*"
    say "installing $* with apt-get"
    # A new machine has no lists of packages yet; an old one may have lists of packages that are gone.
    quietly as_root "${install[@]}" 2>/dev/null ||
        { quietly as_root apt-get update -q && quietly as_root "${install[@]}"; } ||
        fail "apt-get could not install $*. Type: ${sudo}apt-get update && ${sudo}apt-get install $*"
}

# find_python: sets python to an interpreter that is new enough and can make a virtual environment.
find_python() {
    local candidate old=""
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        command -v "$candidate" >/dev/null || continue
        if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            old=$("$candidate" -V 2>&1) || true
        elif "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            python=$candidate
            return 0
        fi
    done
    [[ -z $old ]] || say "$old is too old"
    return 1
}

# install_system WHAT=PACKAGE…: a Python, and what else the system must have: a command, or a file (a pattern with its whole path).
install_system() {
    local missing=() pair
    # The jail runs the system's own Python, whatever Python the project itself runs on (docs/sandbox.md).
    /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
    for pair in "$@"; do
        case $pair in
        /*) compgen -G "${pair%%=*}" >/dev/null ;;
        *) command -v "${pair%%=*}" >/dev/null ;;
        esac || missing+=("${pair#*=}")
    done
    apt_install ${missing[@]+"${missing[@]}"}
    find_python || fail "this needs Python 3.11 or newer with its venv module; say where one is with PYTHON=/path/to/python3"
}

# install_packages app|dev: .venv with exactly the versions of the lock, checked by hash. Nothing to do: nothing done.
install_packages() {
    local want
    want=$(cat locks/uv.txt locks/app.txt | sha256sum)
    [[ $1 == app ]] || want=$(cat locks/uv.txt locks/dev.txt | sha256sum)
    if grep -qsxF "$1 $want" .venv/installed && .venv/bin/python -c '' 2>/dev/null; then return 0; fi
    say "installing Python packages in .venv"
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        rm -rf .venv
        find_python || fail "this needs Python 3.11 or newer with its venv module"
        quietly "$python" -m venv .venv || fail "$python could not make .venv (is the disk full, or the directory read-only?)"
    fi
    # uv is four times as fast as pip; where it is not to be had, or a package index is set for pip alone, pip does it.
    { quietly .venv/bin/python -m pip install -q --require-hashes -r locks/uv.txt &&
        quietly .venv/bin/python -m uv pip install -q --python .venv/bin/python --compile-bytecode --require-hashes -r "locks/$1.txt"; } 2>/dev/null ||
        quietly .venv/bin/python -m pip install -q --require-hashes -r "locks/$1.txt" ||
        fail "the Python packages of locks/$1.txt could not be installed: the lines above say why"
    # dev.txt holds everything of app.txt.
    { [[ $1 == app ]] || echo "app $(cat locks/uv.txt locks/app.txt | sha256sum)"; echo "$1 $want"; } >.venv/installed
}

# install_sandbox: the jail's own Python environment, and where root its users. In /opt, for which others than root need sudo.
install_sandbox() {
    local install=(.venv/bin/python -m sandbox install) why
    why=$("${install[@]}" 2>&1 </dev/null) && return
    if ((EUID != 0)) && [[ -z ${RLMWEB_SANDBOX_PREFIX:-} ]]; then
        as_root true || fail "the jail's files belong in /opt, where only an administrator can write. Type: sudo .venv/bin/python -m sandbox install"
        say "installing the jail in /opt as root"
        why=$(as_root env PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 ${UV_SYSTEM_CERTS:+UV_SYSTEM_CERTS=1} "${install[@]}" 2>&1) && return
    fi
    fail "the sandbox could not be installed: $why"
}
