# What building and testing need beyond a Rust toolchain; sourced by the README's two commands. Says what it installs before it does.

# need PROGRAM PACKAGE...: installs Debian packages if PROGRAM is missing.
need() {
    local program=$1
    shift
    command -v "$program" >/dev/null && return
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    echo "installing $* ($program is missing): $sudo apt-get install -y $*" >&2
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "$@"
}

need_cargo() {
    command -v cargo >/dev/null && return
    echo "a Rust toolchain (1.95 or newer) is needed: https://rustup.rs" >&2
    exit 1
}
