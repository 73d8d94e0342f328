//! Memory that waits to be used again is bounded. In a process of its own, for it counts all tensors there are.

use amend_kernels::tensor::{DType, Tensor, memory_use, restart_peak};

#[test]
fn shapes_that_never_come_again_do_not_pile_up() {
    const MIB: usize = 1 << 20;
    let tensor = |mib: usize| Tensor::zeros(&[mib * MIB / 4], DType::F32);
    let mut held = Vec::new();
    for i in 0..40 {
        // Every size is a class of its own; without a bound 6 GB would lie idle in the end.
        held = vec![tensor(100 + 3 * i), tensor(16)];
        if i == 20 {
            // What was in use before still counts.
            restart_peak();
        }
        let memory = memory_use();
        assert!(memory.cached <= 450 * MIB, "{} MiB lie idle", memory.cached / MIB);
    }
    drop(held);
    // A size that was there is served from what waits.
    let before = memory_use().system_allocations;
    drop(tensor(16));
    assert_eq!(memory_use().system_allocations, before);
}
