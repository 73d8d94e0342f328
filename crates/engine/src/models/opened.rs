//! Attention taken apart at places the fused operation hides: scores, patterns, heads.
//!
//! Built from general operations whose kernels keep the same order of arithmetic, so that looking
//! without touching changes no bit.

use super::within::Within;
use crate::kernels::KeyValues;
use crate::tape::{AttentionKind, Graph, Layout, Linear, Piece, Var, Visibility};
use crate::taps::BlockSite;
use crate::{Result, Tensor};

/// Self-attention with scores and patterns held whole: q [T, H·w], k and v [T, H_kv·w] → [T, H·w].
pub(super) fn attention<'m>(
    g: &mut Graph<'m>,
    [q, k, v]: [&Var; 3],
    kind: &AttentionKind,
    within: Within<'_>,
) -> Result<Var> {
    let width = k.value().columns();
    let mut pieces = Vec::new();
    for rows in &within.layout.sequences {
        let keys = g.slice(k, rows.clone(), 0..width)?;
        let values = g.slice(v, rows.clone(), 0..width)?;
        pieces.push((keys, values, 0));
    }
    attend(g, q, &pieces, kind, within)
}

/// The same against cached keys and values.
pub(super) fn cached_attention<'m>(
    g: &mut Graph<'m>,
    q: &Var,
    kept: &[&KeyValues],
    kind: &AttentionKind,
    within: Within<'_>,
) -> Result<Var> {
    let layout = within.layout;
    let width = kind.kv_heads * kind.head_dim;
    let mut pieces = Vec::new();
    for (rows, kept) in layout.sequences.iter().zip(kept) {
        let [k, v] = kept.rows().map(|x| Tensor::from_f32(&x, &[kept.len(), width]).map(Var::constant));
        pieces.push((k?, v?, layout.positions[rows.start] as usize));
    }
    attend(g, q, &pieces, kind, within)
}

fn attend<'m>(
    g: &mut Graph<'m>,
    q: &Var,
    pieces: &[(Var, Var, usize)],
    kind: &AttentionKind,
    within: Within<'_>,
) -> Result<Var> {
    let layout = within.layout;
    let (heads, w) = (kind.heads, kind.head_dim);
    let group = heads / kind.kv_heads;
    let mut blocks = Vec::new();
    let sequences = layout.sequences.iter().zip(&layout.keys).zip(&layout.visibility);
    for (((rows, &key), &visibility), (k, v, first)) in sequences.zip(pieces) {
        let keys = k.value().rows();
        // Sites see one sequence at a time: their number of columns is its number of keys.
        let alone = Layout::of([Piece { key, first: *first, length: rows.len() }]);
        let mut scores = Vec::new();
        for h in 0..heads {
            let kv = h / group * w..(h / group + 1) * w;
            let q = g.slice(q, rows.clone(), h * w..(h + 1) * w)?;
            let k = g.slice(k, 0..keys, kv)?;
            let k = g.transpose(&k)?;
            let s = g.matmul(&q, &k)?;
            let s = g.scale(&s, kind.scale)?;
            let s = match kind.softcap {
                Some(cap) => g.softcap(&s, cap)?,
                None => s,
            };
            let mask = mask([rows.len(), keys], *first, kind, visibility);
            scores.push(g.add(&s, &Var::constant(mask))?);
        }
        let scores = interleave(g, &scores, rows.len(), keys)?;
        let scores = within.tap_rows(g, BlockSite::Scores, scores, &alone)?;
        let pattern = g.softmax(&scores)?;
        let pattern = within.tap_rows(g, BlockSite::Pattern, pattern, &alone)?;
        for h in 0..heads {
            let kv = h / group * w..(h / group + 1) * w;
            let rows_of_head: Vec<_> = (0..rows.len()).map(|t| t * heads + h).collect();
            let p = g.gather_rows(&pattern, &rows_of_head)?;
            let v = g.slice(v, 0..keys, kv)?;
            blocks.push((g.matmul(&p, &v)?, rows.start, h * w));
        }
    }
    g.assemble([layout.rows(), heads * w], &blocks)
}

/// Per-head [T, keys] matrices → one row per (token, head).
fn interleave(g: &mut Graph<'_>, per_head: &[Var], rows: usize, keys: usize) -> Result<Var> {
    let stacked: Vec<_> = per_head.iter().enumerate().map(|(h, s)| (s.clone(), h * rows, 0)).collect();
    let stacked = g.assemble([rows * per_head.len(), keys], &stacked)?;
    let order: Vec<_> = (0..rows).flat_map(|t| (0..per_head.len()).map(move |h| h * rows + t)).collect();
    g.gather_rows(&stacked, &order)
}

/// 0 where a key is visible, −∞ where it is not.
fn mask([rows, keys]: [usize; 2], first: usize, kind: &AttentionKind, visibility: Visibility) -> Tensor {
    Tensor::build(&[rows, keys], |out| {
        for (i, row) in out.chunks_exact_mut(keys.max(1)).enumerate() {
            let p = first + i;
            for (j, m) in row.iter_mut().enumerate() {
                let hidden = !visibility.sees(p, j) || kind.window.is_some_and(|w| p >= j + w);
                *m = if hidden { f32::NEG_INFINITY } else { 0.0 };
            }
        }
    })
}

/// Lets taps see every head's share of the attention output, z_h·W_o,hᵀ with what an adapter makes of it: [T, heads·d].
///
/// What they change is added to the fused output as a difference, so an untouched value adds exact zeros.
pub(super) fn per_head_result<'m>(
    g: &mut Graph<'m>,
    z: &Var,
    out: Var,
    o_proj: &'m Linear,
    kind: &AttentionKind,
    within: Within<'_>,
) -> Result<Var> {
    let (rows, w, d) = (within.layout.rows(), kind.head_dim, out.value().columns());
    let weight = g.parameter(o_proj.weight);
    let mut shares = Vec::new();
    for h in 0..kind.heads {
        let z = g.slice(z, 0..rows, h * w..(h + 1) * w)?;
        let weight = g.slice(&weight, 0..d, h * w..(h + 1) * w)?;
        let weight = g.transpose(&weight)?;
        let share = g.matmul(&z, &weight)?;
        let share = match &o_proj.adapter {
            // An adapter reads whole rows: of a head's share, rows in which that head is alone.
            Some(adapter) => {
                let alone = g.assemble([rows, kind.heads * w], &[(z, 0, h * w)])?;
                adapter.apply(g, &alone, share)?
            }
            None => share,
        };
        shares.push((share, 0, h * d));
    }
    let before = g.assemble([rows, kind.heads * d], &shares)?;
    let after = within.tap(g, BlockSite::HeadResult, before.clone())?;
    let change = g.sub(&after, &before)?;
    let mut out = out;
    for h in 0..kind.heads {
        let share = g.slice(&change, 0..rows, h * d..(h + 1) * d)?;
        out = g.add(&out, &share)?;
    }
    Ok(out)
}
