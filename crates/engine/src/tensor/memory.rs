//! The caching allocator: buffers go back to a pool, not to the system.
//!
//! A training step frees and asks for the same sizes again and again; handing pages back to the
//! system each time costs more than the arithmetic they hold (page faults and zeroing alone were
//! up to half of a step). Buffers are 64-byte aligned so that a vector load never straddles two
//! cache lines, and sizes are rounded to a few classes so that steps of slightly different
//! lengths share them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One cache line, the unit of allocation.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

static POOL: Mutex<BTreeMap<usize, Vec<Vec<Line>>>> = Mutex::new(BTreeMap::new());
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static FROM_SYSTEM: AtomicUsize = AtomicUsize::new(0);

/// Below this the system allocator is as fast as the pool and wastes nothing.
const SMALL_LINES: usize = 16;

/// An aligned block of bytes that returns to the pool when dropped.
pub(super) struct Block {
    lines: Vec<Line>,
    bytes: usize,
}

impl Block {
    /// A block whose content is whatever its last user left there: initialised, but unspecified.
    pub(super) fn stale(bytes: usize) -> Self {
        let class = size_class(bytes.div_ceil(64));
        let live = LIVE.fetch_add(class * 64, Ordering::Relaxed) + class * 64;
        PEAK.fetch_max(live, Ordering::Relaxed);
        let reused = (class > SMALL_LINES).then(|| POOL.lock().ok()?.get_mut(&class)?.pop()).flatten();
        let lines = reused.unwrap_or_else(|| {
            FROM_SYSTEM.fetch_add(usize::from(class > SMALL_LINES), Ordering::Relaxed);
            // Zeroed by the system where it gives fresh pages, not by a pass of our own.
            bytemuck::zeroed_vec(class)
        });
        Block { lines, bytes }
    }

    /// A block of zeros.
    pub(super) fn zeroed(bytes: usize) -> Self {
        let mut block = Self::stale(bytes);
        block.bytes_mut().fill(0);
        block
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.bytes]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.bytes]
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        let mut copy = Self::stale(self.bytes);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        LIVE.fetch_sub(lines.len() * 64, Ordering::Relaxed);
        if lines.len() > SMALL_LINES
            && let Ok(mut pool) = POOL.lock()
        {
            pool.entry(lines.len()).or_default().push(lines);
        }
    }
}

/// Rounds up to one of eight classes per power of two: at most one eighth of a block is wasted.
fn size_class(lines: usize) -> usize {
    let lines = lines.max(1);
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.div_ceil(step) * step
}

/// How much memory tensors hold and have held.
#[derive(Debug, Clone, Copy)]
pub struct MemoryUse {
    /// Bytes in live tensors.
    pub live: usize,
    /// Largest value `live` has had.
    pub peak: usize,
    /// Pooled blocks (above 1 kB) ever asked of the system: constant over the steps of a steady run.
    pub system_allocations: usize,
}

/// Current memory use of all tensors of the process.
pub fn memory_use() -> MemoryUse {
    MemoryUse {
        live: LIVE.load(Ordering::Relaxed),
        peak: PEAK.load(Ordering::Relaxed),
        system_allocations: FROM_SYSTEM.load(Ordering::Relaxed),
    }
}

/// Gives all cached blocks back to the system: between phases whose shapes have nothing in common.
pub fn release_cached_memory() {
    if let Ok(mut pool) = POOL.lock() {
        pool.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for lines in 1..5000 {
            let class = size_class(lines);
            assert!(class >= lines && class <= lines + lines / 8 + 1, "{lines} -> {class}");
        }
    }

    #[test]
    fn zeroed_is_zero_after_reuse() {
        let mut first = Block::stale(64 * 1000);
        first.bytes_mut().fill(7);
        drop(first);
        assert!(Block::zeroed(64 * 1000).bytes().iter().all(|&b| b == 0));
    }
}
