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

# The main result in miniature, over three seeds; exits 1 where its verdict is negative
miniatures:
    cargo run --release --locked -- demo --seeds 3
