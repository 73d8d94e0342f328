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

use memmap2::MmapMut;

/// One cache line, the unit of allocation.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

static POOL: Mutex<BTreeMap<usize, Vec<Lines>>> = Mutex::new(BTreeMap::new());
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static FROM_SYSTEM: AtomicUsize = AtomicUsize::new(0);
/// The largest peak there was, whatever was restarted since.
static MOST: AtomicUsize = AtomicUsize::new(0);
/// Bytes in the pool.
static CACHED: AtomicUsize = AtomicUsize::new(0);

/// The pool may grow to what was ever in use at one time and this share of it beyond that: of shapes that change from step
/// to step it would otherwise keep one of each.
const IDLE_SHARE: usize = 4;
/// So much it may hold in any case.
const IDLE_BYTES: usize = 64 << 20;

/// Below this the system allocator is as fast as the pool and wastes nothing.
const SMALL_LINES: usize = 16;

/// From this size on a block that is written once is given huge pages.
const HUGE: usize = 2 << 20;

/// Cache lines from the system.
enum Lines {
    Few(Vec<Line>),
    /// Pages of 2 MB instead of 4 kB.
    Huge(MmapMut),
}

impl Lines {
    /// Zeroed by the system where it gives fresh pages, not by a pass of our own.
    fn zeroed(lines: usize) -> Self {
        Lines::Few(bytemuck::zeroed_vec(lines))
    }

    fn huge(lines: usize) -> Option<Self> {
        let bytes = lines * size_of::<Line>();
        let map = (bytes >= HUGE).then(|| MmapMut::map_anon(bytes).ok()).flatten()?;
        // Only advice: a system that has no huge pages left gives small ones.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Lines::Huge(map))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Lines::Few(lines) => bytemuck::cast_slice(lines),
            Lines::Huge(map) => map,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Lines::Few(lines) => bytemuck::cast_slice_mut(lines),
            Lines::Huge(map) => map,
        }
    }
}

/// An aligned block of bytes that returns to the pool when dropped.
pub(crate) struct Block {
    lines: Lines,
    bytes: usize,
}

impl Block {
    /// A [`Block::stale`] for weights that are read from a file: with huge pages, whose first touch
    /// costs a fraction of what as many small ones do. Activations stay on small ones, because several
    /// that begin at the same place of their huge pages compete for the same lines of the cache.
    pub(crate) fn for_weights(bytes: usize) -> Self {
        Self::pooled(bytes, false, |class| Lines::huge(class).unwrap_or_else(|| Lines::zeroed(class)))
    }

    /// A block whose content is whatever its last user left there: initialised, but unspecified.
    pub(crate) fn stale(bytes: usize) -> Self {
        Self::pooled(bytes, false, Lines::zeroed)
    }

    /// A [`Block::stale`] for a parameter's gradient, which may be up to half as large again as it must be:
    /// gradients come when activations go, and live where those did until the optimiser's step, so that the
    /// pool grows less beyond what is used at one time.
    pub(crate) fn for_gradient(bytes: usize) -> Self {
        Self::pooled(bytes, true, Lines::zeroed)
    }

    /// A block from the pool, which may be a larger one where the value `borrows`, or else a `fresh` one of
    /// that many lines.
    fn pooled(bytes: usize, borrows: bool, fresh: impl FnOnce(usize) -> Lines) -> Self {
        let class = size_class(bytes.div_ceil(64));
        let extra = if borrows { class / 2 } else { 0 };
        let reuse = || {
            let mut pool = POOL.lock().ok()?;
            pool.range_mut(class..=class + extra).find_map(|(_, free)| free.pop())
        };
        let lines = match (class > SMALL_LINES).then(reuse).flatten() {
            Some(lines) => {
                CACHED.fetch_sub(lines.bytes().len(), Ordering::Relaxed);
                lines
            }
            None => {
                FROM_SYSTEM.fetch_add(usize::from(class > SMALL_LINES), Ordering::Relaxed);
                let used = LIVE.load(Ordering::Relaxed) + CACHED.load(Ordering::Relaxed) + 64 * class;
                let most = MOST.fetch_max(PEAK.load(Ordering::Relaxed), Ordering::Relaxed);
                release(used.saturating_sub(most + most / IDLE_SHARE + IDLE_BYTES));
                fresh(class)
            }
        };
        let size = lines.bytes().len();
        let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(live, Ordering::Relaxed);
        Block { lines, bytes }
    }

    /// A block of zeros.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        let mut block = Self::stale(bytes);
        block.bytes_mut().fill(0);
        block
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.lines.bytes()[..self.bytes]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.lines.bytes_mut()[..self.bytes]
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
        let lines = std::mem::replace(&mut self.lines, Lines::Few(Vec::new()));
        let class = lines.bytes().len() / size_of::<Line>();
        LIVE.fetch_sub(class * 64, Ordering::Relaxed);
        if class > SMALL_LINES
            && let Ok(mut pool) = POOL.lock()
        {
            CACHED.fetch_add(64 * class, Ordering::Relaxed);
            pool.entry(class).or_default().push(lines);
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
    /// Bytes in blocks that wait to be used again.
    pub cached: usize,
    /// Largest value `live` has had since the beginning, or since [`restart_peak`].
    pub peak: usize,
    /// Pooled blocks (above 1 kB) ever asked of the system: constant over the steps of a steady run.
    pub system_allocations: usize,
}

/// Current memory use of all tensors of the process.
pub fn memory_use() -> MemoryUse {
    MemoryUse {
        live: LIVE.load(Ordering::Relaxed),
        cached: CACHED.load(Ordering::Relaxed),
        peak: PEAK.load(Ordering::Relaxed),
        system_allocations: FROM_SYSTEM.load(Ordering::Relaxed),
    }
}

/// From now on the peak is that of what comes, to find out what a piece of work takes.
pub fn restart_peak() {
    MOST.fetch_max(PEAK.load(Ordering::Relaxed), Ordering::Relaxed);
    PEAK.store(LIVE.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Gives all cached blocks back to the system: between phases whose shapes have nothing in common.
pub fn release_cached_memory() {
    release(usize::MAX);
}

/// Gives cached blocks of that many bytes at least back to the system, the largest first.
fn release(bytes: usize) {
    let mut released = 0;
    let Ok(mut pool) = POOL.lock() else { return };
    while released < bytes {
        let Some(mut largest) = pool.last_entry() else { break };
        match largest.get_mut().pop() {
            Some(lines) => released += lines.bytes().len(),
            None => drop(largest.remove()),
        }
    }
    CACHED.fetch_sub(released, Ordering::Relaxed);
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

    /// A run opens models again and again; what the last one left must serve the next.
    #[test]
    fn weights_reuse_the_pool() {
        // A size that no other test asks for.
        let bytes = 11 << 20;
        let mut first = Block::for_weights(bytes);
        assert!(matches!(first.lines, Lines::Huge(_)));
        first.bytes_mut().fill(7);
        drop(first);
        assert!(Block::for_weights(bytes).bytes().iter().all(|&b| b == 7));
    }

    #[test]
    fn gradients_borrow_and_nothing_else_does() {
        // Sizes that no other test asks for.
        let (large, small) = (23 << 20, 17 << 20);
        drop(Block::stale(large));
        let held = Block::for_gradient(small);
        assert_eq!(held.bytes().len(), small);
        assert!(held.lines.bytes().len() >= large);
        drop(held);
        assert!(Block::stale(small).lines.bytes().len() < large);
        drop(Block::stale(large));
        assert!(Block::for_gradient(large / 2).lines.bytes().len() < large, "twice as large is too large");
    }

    #[test]
    fn zeroed_is_zero_after_reuse() {
        let mut first = Block::stale(64 * 1000);
        first.bytes_mut().fill(7);
        drop(first);
        assert!(Block::zeroed(64 * 1000).bytes().iter().all(|&b| b == 0));
    }
}
