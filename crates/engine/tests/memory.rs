//! Alone in its process: the allocator's counters are global.

use amend_engine::tensor::{memory_use, release_cached_memory};
use amend_engine::{Batch, Example, Model, Taps};
use serde_json::json;

#[test]
fn steady_steps_ask_the_system_for_nothing() {
    let config = json!({
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 96, "vocab_size": 300, "max_position_embeddings": 64,
    });
    let model = Model::random(config.as_object().unwrap().clone(), 0).unwrap();
    let examples: Vec<_> =
        (0..8).map(|i| Example::text((0..40).map(|j| (i * 7 + j) % 300).collect())).collect();
    let batch = Batch::new(&examples).unwrap();
    let step = || drop(model.loss_and_gradients(&batch, &Taps::none()).unwrap());
    // Small buffers come from the system's own allocator on purpose; only large ones are counted here.
    step();
    step();
    let before = memory_use();
    for _ in 0..5 {
        step();
    }
    let after = memory_use();
    assert_eq!(after.live, before.live, "steps leak tensors");
    assert_eq!(after.peak, before.peak);
    assert_eq!(after.system_allocations, before.system_allocations);
    // What was cached for the next step can be given back, and is asked for again.
    release_cached_memory();
    step();
    let again = memory_use();
    assert!(again.system_allocations > after.system_allocations);
    assert_eq!(again.live, after.live);
}
