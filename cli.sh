#!/usr/bin/env bash
# dquant's one command: makes the environment on first use, then runs `python -m dquant "$@"` in it.
#
#   bash cli.sh [-d] [-m MARKET,MARKET] [-s STRATEGY] [options] [verb]     see: bash cli.sh --help
#   bash cli.sh test [pytest arguments]                                    the project's tests
#
# The environment is .venv in the checkout, made from the hash-checked lock files; nothing outside the
# checkout is written, except that root's missing python3-venv is installed by apt. A ready environment
# costs one sha256sum and one readlink; python is asked nothing. How it works: docs/development.md.
set -euo pipefail

OLDEST_PYTHON=3.11
PYTHON_NAMES=(python3 python3.14 python3.13 python3.12 python3.11)

self="${BASH_SOURCE[0]}"
[[ ! -L $self ]] || self="$(readlink -f -- "$self")"
[[ $self == */* ]] || self="./$self"
root="$(CDPATH='' cd -P -- "${self%/*}" && pwd -P)"

venv="$root/.venv"
venv_python="$venv/bin/python"
tools="$root/.tools"
unfinished="$tools/unfinished" # there while packages are being written, and after an interruption

say() { printf 'cli.sh: %s\n' "$*" >&2; }
fail() { # fail EXIT_CODE WORDS…
    local code=$1
    shift
    say "$*"
    exit "$code"
}

# --- is it ready? -------------------------------------------------------------------------------------

lock_file() { [[ $1 == dev ]] && REPLY="$root/requirements-dev.lock" || REPLY="$root/requirements.lock"; }

# The stamp of a finished environment: which lock file it holds and which interpreter it stands on.
expected_stamp() { # expected_stamp run|dev  -> REPLY
    local hash python
    lock_file "$1"
    [[ -r $REPLY ]] || fail 1 "cannot read $REPLY: the checkout is not complete"
    hash="$(sha256sum <"$REPLY")"
    python="$(readlink -f -- "$venv_python")" || python=""
    REPLY="${hash%% *} $python"
}

is_ready() { # is_ready run|dev
    local found
    [[ -x $venv_python && -r $venv/.dquant-$1 ]] || return 1
    expected_stamp "$1"
    read -r found <"$venv/.dquant-$1" || return 1
    [[ $found == "$REPLY" ]]
}

# --- what it is made with -----------------------------------------------------------------------------

can_apt() { [[ ${EUID:-$(id -u)} -eq 0 ]] && command -v apt-get >/dev/null; }

find_python() { # -> python; exit code 2 where there is none
    local name version seen=""
    for name in "${PYTHON_NAMES[@]}"; do
        # A name may be there and still not run (a pyenv shim): only an answer counts.
        version="$("$name" -c "import sys
print(sys.version_info >= (${OLDEST_PYTHON/./, }), '%d.%d.%d' % sys.version_info[:3])" 2>/dev/null)" || continue
        if [[ $version == True* ]]; then
            python="$(command -v "$name")"
            return
        fi
        seen="$seen${seen:+, }$name is ${version#* }"
    done
    if [[ -n $seen ]]; then
        fail 2 "dquant needs Python $OLDEST_PYTHON or newer, and here $seen." \
            "Install a newer one beside it, such as 'apt-get install python$OLDEST_PYTHON python$OLDEST_PYTHON-venv'."
    fi
    fail 2 "dquant needs Python $OLDEST_PYTHON or newer, and there is no python3 here." \
        "Install it: apt-get install python3 python3-venv"
}

find_pip() { # -> pip (a python that has it); uses python; exit code 2 where there is none
    local package
    if "$python" -m pip --version >/dev/null 2>&1; then
        pip="$python"
        return
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package="python3-venv"
        [[ $(readlink -f -- "$python") == "$(readlink -f /usr/bin/python3)" ]] ||
            package="$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        can_apt || fail 2 "$python has neither pip nor venv. Install one of them: sudo apt-get install $package"
        say "$python has neither pip nor venv: installing $package with apt-get …"
        apt_install "$package" || fail 2 "apt-get could not install $package: see above, then type: apt-get install $package"
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail 2 "$python still has neither pip nor venv after 'apt-get install $package'"
    fi
    # The pip that ensurepip carries, in an environment of its own.
    "$python" -m venv --clear "$tools/pip" || fail 1 "could not make $tools/pip: see above"
    pip="$tools/pip/bin/python"
}

apt_install() {
    local install=(apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=60 -o Dpkg::Use-Pty=0 "$1")
    export DEBIAN_FRONTEND=noninteractive
    # A machine that was never updated knows no package. Standard output belongs to the verb.
    "${install[@]}" >&2 2>/dev/null || { apt-get update -qq >&2 && "${install[@]}" >&2; }
}

find_uv() { # -> uv, pinned and hash-checked; not 0 where it cannot be had or does not run
    local hash dir
    hash="$(sha256sum <"$root/requirements-uv.lock")" || return 1
    dir="$tools/uv-${hash:0:12}"
    uv="$dir/bin/uv"
    if [[ ! -e $uv ]]; then
        rm -rf -- "$tools"/uv-*
        "$pip" -m pip install -q --no-deps --only-binary :all: --require-hashes --target "$dir.new" \
            -r "$root/requirements-uv.lock" >&2 || return 1
        mv -- "$dir.new" "$dir" || return 1
    fi
    "$uv" --version >/dev/null 2>&1
}

# uv reads none of pip's configuration, and where pip is told to use a mirror or a proxy, uv must too.
pip_setting() { # pip_setting NAME -> REPLY: the environment's, else that of `pip install`, else the general one
    local section
    for section in :env:. install. global.; do
        REPLY="$(sed -n "s/^${section}$1=['\"]\(.*\)['\"]\$/\1/p" <<<"$pip_config")"
        [[ -z $REPLY ]] || return 0
    done
}

share_settings_with_uv() {
    local bundle
    pip_config="$("$pip" -m pip config list 2>/dev/null)" || pip_config=""
    pip_setting index-url
    [[ -z $REPLY || -n ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-} ]] || export UV_DEFAULT_INDEX="$REPLY"
    pip_setting trusted-host
    [[ -z $REPLY || -n ${UV_INSECURE_HOST:-} ]] || export UV_INSECURE_HOST="${REPLY//\\n/ }"
    pip_setting proxy
    [[ -z $REPLY || -n ${HTTPS_PROXY:-}${https_proxy:-} ]] || export HTTPS_PROXY="$REPLY"
    # uv carries its own list of authorities; the machine's counts. Both names: the second is the newer.
    export UV_NATIVE_TLS="${UV_NATIVE_TLS:-1}" UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
    pip_setting cert
    for bundle in "$REPLY" /etc/ssl/certs/ca-certificates.crt; do
        [[ -n ${SSL_CERT_FILE:-} || -z $bundle || ! -r $bundle ]] || export SSL_CERT_FILE="$bundle"
    done
    export UV_CACHE_DIR="${UV_CACHE_DIR:-$tools/cache}" UV_LINK_MODE="${UV_LINK_MODE:-copy}"
    export UV_PYTHON_DOWNLOADS=never
}

# --- making it ----------------------------------------------------------------------------------------

quiet=(-q)
[[ ! -t 2 ]] || quiet=()

make_with_uv() { # make_with_uv LOCK clear|keep|reinstall
    local again=()
    [[ $2 != clear ]] || { rm -rf -- "$venv" && "$uv" venv -q --python "$python" "$venv"; } || return 1
    [[ $2 != reinstall ]] || again=(--reinstall)
    "$uv" pip sync "${quiet[@]}" --require-hashes "${again[@]}" --python "$venv_python" "$1" >&2
}

make_with_pip() { # the same, slower; takes no package away
    local again=()
    [[ $2 != clear ]] || { rm -rf -- "$venv" && "$python" -m venv --without-pip "$venv"; } || return 1
    [[ $2 != reinstall ]] || again=(--force-reinstall)
    "$pip" -m pip --python "$venv_python" install "${quiet[@]}" --no-deps --require-hashes "${again[@]}" -r "$1" >&2
}

make_ready() { # make_ready run|dev; the caller holds the lock
    local want=$1 how=keep lock kind stamps=(run)
    # Once it holds the tools of the tests it keeps them: nothing is taken from under a running test.
    [[ ! -e $venv/.dquant-dev ]] || want=dev
    [[ $want != dev ]] || stamps=(run dev)
    lock_file "$want"
    lock="$REPLY"

    find_python
    find_pip
    cd -- "$root" # what lies in the user's directory is no configuration of ours
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_NO_INPUT=1

    if ! "$venv_python" -c '' 2>/dev/null || [[ ! -e $venv/pyvenv.cfg ]]; then
        how=clear
    elif [[ -e $unfinished ]]; then
        # Something was interrupted. Where a finished part is in use it stays, else it is all made anew.
        is_ready run && how=reinstall || how=clear
    fi
    : >"$unfinished"
    # A part that is ready stays ready while the rest is added; a part that is out of date is not ready from here on.
    for kind in run dev; do
        is_ready "$kind" || rm -f -- "$venv/.dquant-$kind"
    done

    if find_uv; then
        share_settings_with_uv
        say "installing the packages of ${lock##*/} with uv …"
        if make_with_uv "$lock" "$how"; then
            how=""
        elif [[ $how == keep ]]; then
            how=reinstall
        fi
    fi
    if [[ -n $how ]]; then
        say "uv cannot do it here: installing with pip, which takes about a minute …"
        make_with_pip "$lock" "$how" ||
            fail 1 "could not install the packages of ${lock##*/}: see above. The next start tries again."
    fi
    for kind in "${stamps[@]}"; do
        expected_stamp "$kind"
        printf '%s\n' "$REPLY" >"$venv/.dquant-$kind" || fail 1 "could not write to $venv"
    done
    rm -f -- "$unfinished"
}

cannot_write() { # cannot_write run|dev; ends with exit code 2
    local python remedy="Let its owner start it once, or make a clone of your own."
    python="$(readlink -- "$venv_python")" || python=""
    [[ ! -e $venv/.dquant-$1 || -z $python || -x $venv_python ]] ||
        remedy="What is there stands on $python, which you cannot run: make a clone of your own."
    fail 2 "cannot write to $root, where the environment belongs. $remedy"
}

ensure_ready() { # ensure_ready run|dev
    ! is_ready "$1" || return 0
    command -v flock >/dev/null || fail 2 "flock is missing here. Install it: apt-get install util-linux"
    (
        # A child that answers a signal by an ordinary exit must not let the next step begin.
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        { mkdir -p -- "$tools" && { true >>"$tools/lock"; } && exec 9>>"$tools/lock"; } 2>/dev/null ||
            cannot_write "$1"
        if ! flock -n 9; then
            say "another cli.sh is making the environment: waiting for it …"
            flock 9
        fi
        ! is_ready "$1" || exit 0
        if [[ -e $venv/.dquant-run ]]; then
            say "bringing the environment up to date …"
        else
            say "first use: making the environment in $venv (about half a minute) …"
        fi
        make_ready "$1"
        say "ready after $SECONDS s"
    ) </dev/null
}

# --- the tests ----------------------------------------------------------------------------------------

# Hundreds of tests run real servers, four at a time, on machines that do other things: what failed for want of
# time passes alone, and what fails alone has failed.
run_suite() { # run_suite; sets status
    local code=0
    "${pytest[@]}" || code=$?
    if ((code == 1)); then
        headline "pytest: what failed, once more and alone"
        code=0
        "$venv_python" -m pytest --last-failed --last-failed-no-failures none || code=$?
    fi
    ((code == 0)) || ((status)) || status=$code
    return "$code"
}

run_tests() { # run_tests [pytest arguments]
    local status=0 failed=() pytest=("$venv_python" -m pytest)
    # Four at a time, for many of them wait; that pays for the whole suite only.
    (($#)) || pytest+=(-n 4)
    cd -- "$root"
    trap 'exit 130' INT
    trap 'exit 143' TERM
    check "ruff check" "$venv_python" -m ruff check .
    check "ruff format --check" "$venv_python" -m ruff format --check .
    check "mypy" "$venv_python" -m mypy
    headline "pytest"
    if (($#)); then
        ((status)) || exec "${pytest[@]}" "$@"
        "${pytest[@]}" "$@" || failed+=("pytest")
    elif ! run_suite; then
        failed+=("pytest")
    fi
    ((${#failed[@]})) || exit 0
    printf '\ncli.sh: failed: %s\n' "$(IFS=,; echo "${failed[*]}")" >&2
    exit "$status"
}

headline() { printf '\n=== %s\n' "$1"; }

check() { # check NAME COMMAND…; keeps the first failure's exit code in status
    local name=$1 code=0
    shift
    headline "$name"
    "$@" || code=$?
    ((code == 0)) && return
    ((code < 128)) || exit "$code" # a signal: no more of it
    failed+=("$name")
    ((status)) || status=$code
}

explain_test() {
    cat <<'EOF'
usage: bash cli.sh test [pytest arguments]

Runs the project's checks and tests: ruff check, ruff format --check, mypy, pytest, in this order. It goes on after
a failure; the exit code is that of the first. Without arguments the whole suite runs, in some minutes.

  bash cli.sh test tests/test_rooms.py -k planted
  bash cli.sh test -x --lf

All options of pytest: .venv/bin/python -m pytest --help
EOF
}

# --- go -----------------------------------------------------------------------------------------------

export DQUANTENV="${DQUANTENV:-dev}"
# The checkout is not installed: python finds it by this, from whatever directory it is started in.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
unset PYTHONHOME

if [[ ${1:-} == test ]]; then
    shift
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        explain_test
        exit 0
    fi
    ensure_ready dev
    run_tests "$@"
fi
ensure_ready run
# -P: a file of the user's directory is never taken for a module.
exec "$venv_python" -P -m dquant "$@"
