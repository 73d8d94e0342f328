//! Where the time of a computation goes: scoped timers that operations carry, off unless asked for.
//!
//! [`record`] switches them on for the calling thread while a closure runs. The tape works on one thread
//! and hands only the insides of kernels to others, so a span covers all that its operation costs.
//! Off, a span is one read of a flag.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static RECORDER: RefCell<Recorder> = RefCell::default();
}

/// What one kind of operation cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cost {
    /// Time within its spans, without that of spans opened inside them.
    pub time: Duration,
    /// Spans.
    pub calls: u64,
    /// Counted operations of its matrix products, 2·m·n·k each; 0 for what is no product.
    pub flops: u64,
}

/// The costs of a computation by the name of the operation, and how long it took in all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    /// Costs by name.
    pub costs: BTreeMap<String, Cost>,
    /// Time from start to end; what it exceeds the sum of the costs by was spent outside of all spans.
    pub elapsed: Duration,
}

#[derive(Default)]
struct Recorder {
    costs: BTreeMap<String, Cost>,
    /// Time that was spent within the spans inside each open span.
    inner: Vec<Duration>,
}

/// A span of time that ends where this value is dropped.
#[must_use = "a span that is dropped at once measures nothing"]
#[derive(Debug)]
pub struct Span(Option<Open>);

#[derive(Debug)]
struct Open {
    name: String,
    flops: u64,
    start: Instant,
}

/// A span of the named operation.
#[inline]
pub fn span(operation: &str) -> Span {
    Span(ON.get().then(|| Open::begin(operation.to_owned(), 0)))
}

/// A span of a matrix product of m × n × k = `shape` with the named parameter. All layers' products with
/// the same part of a block go under one name: `forward q_proj`.
#[inline]
pub fn product(operation: &str, parameter: &str, shape: [usize; 3]) -> Span {
    Span(ON.get().then(|| {
        let flops = 2 * shape.iter().map(|&n| n as u64).product::<u64>();
        Open::begin(format!("{operation} {}", part_of(parameter)), flops)
    }))
}

/// The layer's own name within its block: `q_proj` of `model.layers.0.self_attn.q_proj.weight`.
fn part_of(parameter: &str) -> &str {
    let layer = parameter.strip_suffix(".weight").unwrap_or(parameter);
    match layer.rsplit_once('.') {
        // An adapter's matrices are told apart from the layer they adapt.
        Some((_, part)) => part,
        None => layer,
    }
}

impl Open {
    fn begin(name: String, flops: u64) -> Self {
        RECORDER.with_borrow_mut(|r| r.inner.push(Duration::ZERO));
        Open { name, flops, start: Instant::now() }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = self.0.take() else { return };
        let took = open.start.elapsed();
        RECORDER.with_borrow_mut(|recorder| {
            let inner = recorder.inner.pop().unwrap_or_default();
            if let Some(around) = recorder.inner.last_mut() {
                *around += took;
            }
            let cost = recorder.costs.entry(open.name).or_default();
            cost.time += took.saturating_sub(inner);
            cost.calls += 1;
            cost.flops += open.flops;
        });
    }
}

/// Runs `work` and says where its time went. One recording at a time per thread: an inner one ends the
/// outer one's spans.
pub fn record<R>(work: impl FnOnce() -> R) -> (R, Profile) {
    RECORDER.take();
    ON.set(true);
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed();
    ON.set(false);
    (result, Profile { costs: RECORDER.take().costs, elapsed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait() {
        std::thread::sleep(Duration::from_millis(3));
    }

    #[test]
    fn time_inside_an_inner_span_is_its_own() {
        let ((), profile) = record(|| {
            let _outer = span("outer");
            for _ in 0..2 {
                let _inner = product("forward", "model.layers.7.mlp.up_proj.weight", [2, 3, 5]);
                wait();
            }
        });
        let (outer, inner) = (&profile.costs["outer"], &profile.costs["forward up_proj"]);
        assert_eq!((outer.calls, outer.flops, inner.calls, inner.flops), (1, 0, 2, 2 * 60));
        assert!(inner.time >= Duration::from_millis(6) && outer.time < inner.time);
        assert!(profile.elapsed >= outer.time + inner.time);
    }

    #[test]
    fn nothing_is_recorded_unless_asked_for() {
        drop(span("before"));
        let ((), profile) = record(|| ());
        drop(span("after"));
        assert!(profile.costs.is_empty());
        assert!(RECORDER.with_borrow(|r| r.costs.is_empty() && r.inner.is_empty()));
    }

    #[test]
    fn parameters_are_named_by_their_part_of_the_block() {
        assert_eq!(part_of("model.layers.0.self_attn.q_proj.weight"), "q_proj");
        assert_eq!(part_of("model.layers.0.mlp.up_proj.lora_A.weight"), "lora_A");
        assert_eq!(part_of("lm_head.weight"), "lm_head");
        assert_eq!(part_of("head"), "head");
    }
}
