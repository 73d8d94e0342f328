//! GGUF files put together by hand, for those that no writer makes.

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct Raw {
    entries: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    /// Bytes of zeros after the header.
    pub(crate) data: usize,
    /// The counts in the header, where they are to lie.
    pub(crate) counts: Option<[u64; 2]>,
    /// The version, where it is not 3.
    pub(crate) version: Option<u32>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Raw {
    /// The smallest model that is whole: one layer, width 4, vocabulary 2.
    pub(crate) fn model() -> Self {
        let mut raw = Raw::default();
        raw.text("general.architecture", "llama");
        for (key, n) in [
            ("context_length", 8),
            ("embedding_length", 4),
            ("block_count", 1),
            ("feed_forward_length", 4),
            ("attention.head_count", 1),
        ] {
            raw.int(&format!("llama.{key}"), n);
        }
        let mut offset = 0;
        for (name, rows) in [
            ("token_embd.weight", 2),
            ("output_norm.weight", 0),
            ("blk.0.attn_norm.weight", 0),
            ("blk.0.attn_q.weight", 4),
            ("blk.0.attn_k.weight", 4),
            ("blk.0.attn_v.weight", 4),
            ("blk.0.attn_output.weight", 4),
            ("blk.0.ffn_norm.weight", 0),
            ("blk.0.ffn_gate.weight", 4),
            ("blk.0.ffn_up.weight", 4),
            ("blk.0.ffn_down.weight", 4),
        ] {
            let shape: &[u64] = if rows == 0 { &[4] } else { &[4, rows] };
            raw.tensor(name, shape, 0, offset);
            offset += (16 * rows.max(1)).next_multiple_of(32);
        }
        raw.data = offset as usize;
        raw
    }

    pub(crate) fn entry(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.entries.push([&text(key)[..], &kind.to_le_bytes(), value].concat());
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.entry(key, 8, &text(value));
    }

    pub(crate) fn int(&mut self, key: &str, value: u32) {
        self.entry(key, 4, &value.to_le_bytes());
    }

    /// A list of `count` elements of type `kind` with the given bytes.
    pub(crate) fn list(&mut self, key: &str, kind: u32, count: u64, bytes: &[u8]) {
        self.entry(key, 9, &[&kind.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat());
    }

    pub(crate) fn texts(&mut self, key: &str, all: &[&str]) {
        self.list(key, 8, all.len() as u64, &all.iter().flat_map(|t| text(t)).collect::<Vec<_>>());
    }

    /// `shape` as the file has it, the fastest extent first.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[u64], kind: u32, offset: u64) {
        let extents: Vec<u8> = shape.iter().flat_map(|n| n.to_le_bytes()).collect();
        let dimensions = (shape.len() as u32).to_le_bytes();
        self.tensors.push(
            [&text(name)[..], &dimensions, &extents, &kind.to_le_bytes(), &offset.to_le_bytes()].concat(),
        );
    }

    /// Leaves out the entry of this key, or the tensor of this name.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let start = text(name);
        self.entries.retain(|e| !e.starts_with(&start));
        self.tensors.retain(|t| !t.starts_with(&start));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [tensors, entries] =
            self.counts.unwrap_or([self.tensors.len() as u64, self.entries.len() as u64]);
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.unwrap_or(3).to_le_bytes());
        bytes.extend([tensors.to_le_bytes(), entries.to_le_bytes()].concat());
        bytes.extend(self.entries.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }
}
