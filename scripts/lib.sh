# Shared by the scripts of this folder; sourced, never run. Sets the environment of a build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
if command -v ccache >/dev/null; then
    export CMAKE_C_COMPILER_LAUNCHER="${CMAKE_C_COMPILER_LAUNCHER:-ccache}"
    export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER:-ccache}"
fi
if [[ -n "${CI:-}" ]]; then
    export CARGO_INCREMENTAL=0
fi

say() { printf '\n==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# step NAME COMMAND...: runs it, prints how long it took, remembers that for `summary`.
STEPS=()
step() {
    local name=$1 start=$SECONDS
    shift
    say "$name"
    "$@" || die "failed: $name (after $((SECONDS - start)) s)"
    STEPS+=("$(printf '%6d s  %s' "$((SECONDS - start))" "$name")")
    printf -- '--- %s: %d s\n' "$name" "$((SECONDS - start))"
}

summary() {
    printf '\nTime of each step:\n'
    printf '%s\n' "${STEPS[@]}"
    printf '%6d s  in all\n' "$SECONDS"
}

# The tools of the checks live under target/, apart from the machine's own.
TOOLS="$CARGO_TARGET_DIR/tools"
