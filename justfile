# Formatting, the house's own rules, clippy
check:
    cargo fmt --all --check
    .ci/checks.sh
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Every test of every crate
test:
    cargo test --workspace

# Speed of the engine, as BENCHMARKS.md records it
bench:
    bench/run

# Reference pages of the library; a broken link is an error
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The papers’ claims in miniature, over three seeds, with their inequalities asserted
miniatures:
    cargo test --release --locked -p amend-cli --test cli -- miniature:: --ignored --nocapture
