# What the scripts share: words, the tool chain, and how missing programs are had. Sourced, never run.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET_DIR=${CARGO_TARGET_DIR:-$TOP/target}
TOOLS=$TARGET_DIR/tools
PATH=$TOOLS/bin:$PATH

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# The target triple of this machine's own static binary.
host_target() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo x86_64-unknown-linux-gnu ;;
    Linux-aarch64) echo aarch64-unknown-linux-gnu ;;
    *) die "Skein is built on Linux, x86_64 or aarch64; this is $(uname -sm)" ;;
  esac
}

# Installs Debian packages, when this is Debian and root. Silent when it works.
apt_install() {
  is_root && have apt-get || return 1
  if [ -z "${apt_is_fresh:-}" ]; then
    apt-get update -qq >/dev/null 2>&1 || true
    apt_is_fresh=1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

# provide PROGRAM PACKAGE...: true when PROGRAM is there, or could be installed.
provide() {
  have "$1" || apt_install "${@:2}" && have "$1"
}

# cargo, and a C compiler and linker for the few dependencies that need one.
need_rust() {
  have cargo || { [ -r "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"; } || true
  have cargo || die "cargo is missing: install Rust by https://rustup.rs, then run this again"
  provide cc gcc libc6-dev || die "a C compiler is missing: apt-get install gcc libc6-dev"
  # containerd's interface is made from its description when the crate is built.
  [ -n "${PROTOC:-}" ] || provide protoc protobuf-compiler || die "protoc is missing: apt-get install protobuf-compiler"
}
