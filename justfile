# Every recipe runs the same in CI and by hand. `just` alone lists them.

_default:
    @just --list --unsorted

# Format everything
fmt:
    cargo fmt --all

# Formatting, clippy, documentation, and dependencies where cargo-deny is installed
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
    @if command -v cargo-deny >/dev/null; then cargo deny check; else echo "SKIPPED: cargo-deny is not installed"; fi
    @if command -v shellcheck >/dev/null; then shellcheck -x .ci/run examples/multi-cluster/*.sh examples/multi-cluster/kubernetes/*.sh deploy/*.sh deploy/image/*.sh; else echo "SKIPPED: shellcheck is not installed"; fi

# Every test
test *ARGS:
    cargo test --workspace {{ARGS}}

# The walls between crates, and the limits on files
tidy:
    cargo test -p tests --test system tidy

# Three clusters on this machine; --once checks and ends, --netns gives each its own network namespace
demo *ARGS:
    ./examples/multi-cluster/run.sh {{ARGS}}

# Round trips, throughput, memory, propagation and failover, against a direct connection
bench *ARGS:
    cargo build --release -p gateway -p federation -p federation-fedctl
    cargo run --release -p bench -- {{ARGS}}

# Exactly what CI runs
ci:
    .ci/run
