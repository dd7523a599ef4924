# What building and testing need beyond a Rust toolchain; sourced by the README's two commands. Says what it installs before it does.

# install WHAT PACKAGE...: installs Debian packages because WHAT is missing.
install() {
    local what=$1 sudo=""
    shift
    [ "$(id -u)" = 0 ] || sudo="sudo"
    echo "installing $* ($what is missing): $sudo apt-get install -y $*" >&2
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >&2
}

# need PROGRAM PACKAGE...: installs Debian packages if PROGRAM is missing.
need() {
    command -v "$1" >/dev/null || install "$@"
}

# need_file PATTERN PACKAGE...: installs Debian packages if no file matches.
need_file() {
    compgen -G "$1" >/dev/null || install "$@"
}

need_cargo() {
    command -v cargo >/dev/null && return
    echo "a Rust toolchain (1.95 or newer) is needed: https://rustup.rs" >&2
    exit 1
}
