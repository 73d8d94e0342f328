//! What rows see: before, both ways, or both ways within a prefix; per sequence, opened and closed, with a cache.

use crate::small_models::models;
use amend_engine::models::Tokens;
use amend_engine::tape::{Layout, Visibility};
use amend_engine::taps::BlockSite;
use amend_engine::{Graph, Model, Site, Taps};

fn sequence(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * 3) % 61).collect()
}

fn layout(length: usize, visibility: Visibility) -> Layout {
    Layout::packed([length]).seen(visibility)
}

/// Bits of the hidden states, one list per row.
fn hidden(model: &Model, ids: &[u32], layout: &Layout, taps: &Taps) -> Vec<Vec<u32>> {
    let mut g = Graph::inference(&model.params);
    let hidden = model.hidden_of(&mut g, Tokens::from(ids), layout, taps).unwrap();
    hidden
        .value()
        .f32()
        .chunks(model.spec().hidden)
        .map(|row| row.iter().map(|x| x.to_bits()).collect())
        .collect()
}

#[test]
fn rows_see_what_they_are_said_to_see() {
    let ids = sequence(1, 14);
    for model in models() {
        // For every changed token, whether each row notices.
        let notices = |visibility: Visibility, changed: usize| -> Vec<bool> {
            let (mut other, layout) = (ids.clone(), layout(ids.len(), visibility));
            other[changed] = (other[changed] + 1) % 61;
            let (before, after) = (
                hidden(&model, &ids, &layout, &Taps::none()),
                hidden(&model, &other, &layout, &Taps::none()),
            );
            before.iter().zip(&after).map(|(a, b)| a != b).collect()
        };
        // Three layers of a short window do not reach all later rows, but always those before.
        let before = |visibility, changed: usize| notices(visibility, changed)[..changed].to_vec();
        assert_eq!(before(Visibility::Causal, 9), [false; 9]);
        assert_eq!(before(Visibility::BothWays, 9), [true; 9]);
        assert_eq!(before(Visibility::Prefix(10), 9), [true; 9]);
        assert_eq!(before(Visibility::Prefix(9), 9), [false; 9]);
        assert!(notices(Visibility::Prefix(5), 2)[..5].iter().all(|&n| n));
        assert!(notices(Visibility::Prefix(5), 12)[12]);
    }
}

#[test]
fn the_ends_of_a_prefix_are_causal_and_both_ways() {
    let ids = sequence(1, 14);
    for model in models() {
        let seen = |visibility| hidden(&model, &ids, &layout(ids.len(), visibility), &Taps::none());
        assert_eq!(seen(Visibility::Prefix(0)), seen(Visibility::Causal));
        assert_eq!(seen(Visibility::Prefix(14)), seen(Visibility::BothWays));
    }
}

/// Sequences packed together, each seen in its own way, are what they are alone; and opening scores and
/// patterns shows the pass that runs closed.
#[test]
fn every_sequence_has_its_own_visibility() {
    let kinds = [Visibility::Prefix(4), Visibility::Causal, Visibility::BothWays, Visibility::Prefix(9)];
    let lengths = [11, 8, 6, 9];
    let texts: Vec<_> = lengths.iter().enumerate().map(|(i, &n)| sequence(i as u32, n)).collect();
    let mut together = Layout::packed(lengths);
    together.visibility = kinds.to_vec();
    for model in models() {
        let all = hidden(&model, &texts.concat(), &together, &Taps::none());
        let alone = texts
            .iter()
            .zip(kinds)
            .flat_map(|(ids, kind)| hidden(&model, ids, &layout(ids.len(), kind), &Taps::none()));
        assert_eq!(all, alone.collect::<Vec<_>>());
        for site in [BlockSite::Scores, BlockSite::Pattern] {
            let mut taps = Taps::none();
            taps.read(Site::Block(1, site));
            assert_eq!(hidden(&model, &texts.concat(), &together, &taps), all, "{site:?}");
        }
    }
}

#[test]
fn decoding_after_a_prefix_has_the_bits_of_one_pass() {
    let (ids, kind) = (sequence(3, 12), Visibility::Prefix(5));
    for model in models() {
        let whole = hidden(&model, &ids, &layout(ids.len(), kind), &Taps::none());
        let (mut caches, taps) = ([model.new_cache()], Taps::none());
        let mut g = Graph::inference(&model.params);
        let mut pass = |piece: std::ops::Range<usize>, kind| {
            let layout = Layout::continued([(piece.start, piece.len())]).seen(kind);
            let out = model.continue_hidden(&mut g, &ids[piece], &layout, &mut caches, &taps);
            out.map(|x| x.value().f32().iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        };
        let error = pass(0..4, kind).unwrap_err().to_string();
        assert!(
            error.contains("the first 5 positions of sequence 0") && error.contains("ends at 4"),
            "{error}"
        );
        let error = pass(0..12, Visibility::BothWays).unwrap_err().to_string();
        assert!(error.contains("sequence 0 is read both ways"), "{error}");
        let pieces = [0..7, 7..8, 8..11, 11..12].map(|piece| pass(piece, kind).unwrap());
        assert_eq!(pieces.concat(), whole.concat());
    }
}
