//! Parts of the model taken out of the attacked run: what is left of the attack without them.

use std::collections::BTreeSet;

use amend_engine::taps::BlockSite;
use amend_engine::{Action, Model, Rng, Selector, Site, Taps};
use amend_interpret::{Head, HeadVectors, without_heads, without_vectors};
use serde::{Deserialize, Serialize};

use super::Look;

/// What is taken out of the attacked run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// The heads that say most of the old object.
    Heads,
    /// As many others, of the same layers where there are others.
    RandomHeads,
    /// The singular vectors of those heads that do most for it, at the last token.
    Vectors,
    /// As many others of the same heads.
    RandomVectors,
    /// What attention adds in the upper half of the layers, from the last token on.
    LateAttention,
    /// What feed-forwards add there.
    LateMlp,
}

impl Cut {
    /// All of them.
    pub const ALL: [Cut; 7] = [
        Cut::Nothing,
        Cut::Heads,
        Cut::RandomHeads,
        Cut::Vectors,
        Cut::RandomVectors,
        Cut::LateAttention,
        Cut::LateMlp,
    ];

    /// What it is called where people read it.
    pub fn words(self) -> &'static str {
        match self {
            Cut::Nothing => "nothing",
            Cut::Heads => "the heads that say most of the old object",
            Cut::RandomHeads => "as many other heads",
            Cut::Vectors => "their strongest singular vectors, at the last token",
            Cut::RandomVectors => "as many others of theirs",
            Cut::LateAttention => "attention in the upper half, from the last token on",
            Cut::LateMlp => "feed-forwards in the upper half, from the last token on",
        }
    }

    pub(super) fn is_random(self) -> bool {
        matches!(self, Cut::RandomHeads | Cut::RandomVectors)
    }
}

/// What is taken out of one case's attacked run.
pub(super) struct Cutting<'a> {
    pub(super) model: &'a Model,
    pub(super) look: &'a Look,
    pub(super) chosen: &'a [Head],
    pub(super) vectors: &'a [HeadVectors],
    /// Of every chosen head the vectors that do most, and the others.
    pub(super) strongest: &'a [(Vec<usize>, Vec<usize>)],
    pub(super) seed: u64,
}

impl Cutting<'_> {
    pub(super) fn taps(&self, cut: Cut, draw: usize) -> Taps {
        let mut taps = Taps::none();
        let last = self.look.attacked.ids.len() - 1;
        let mut random = Rng::named(self.seed, &format!("audit/{cut:?}/{}/{draw}", self.look.name));
        match cut {
            Cut::Nothing => {}
            Cut::Heads => without_heads(&mut taps, self.model, self.chosen),
            Cut::RandomHeads => {
                let spec = self.model.spec();
                let heads = other_heads(self.chosen, [spec.layers, spec.heads], &mut random);
                without_heads(&mut taps, self.model, &heads);
            }
            Cut::Vectors => {
                for (vectors, (strongest, _)) in self.vectors.iter().zip(self.strongest) {
                    without_vectors(&mut taps, self.model, vectors, strongest, last);
                }
            }
            Cut::RandomVectors => {
                for (vectors, (strongest, rest)) in self.vectors.iter().zip(self.strongest) {
                    let mut drawn = rest.clone();
                    random.shuffle(&mut drawn);
                    drawn.truncate(strongest.len());
                    without_vectors(&mut taps, self.model, vectors, &drawn, last);
                }
            }
            Cut::LateAttention => self.late(&mut taps, BlockSite::AttnOut),
            Cut::LateMlp => self.late(&mut taps, BlockSite::MlpOut),
        }
        taps
    }

    /// Nothing is added at a place of the upper layers, where the object is being written.
    fn late(&self, taps: &mut Taps, place: BlockSite) {
        let Look { attacked, old, new, .. } = self.look;
        let longest = old.len().max(new.as_ref().map_or(0, Vec::len));
        let from = attacked.ids.len() - 1;
        let positions: BTreeSet<u32> = (from..from + longest).map(|position| position as u32).collect();
        for layer in self.model.spec().layers / 2..self.model.spec().layers {
            let here = Selector { positions: Some(positions.clone()), ..Selector::default() };
            taps.add(Site::Block(layer, place), here, Action::Zero);
        }
    }
}

/// For every chosen head another one: of its layer where one is left, otherwise of any.
fn other_heads(chosen: &[Head], [layers, heads]: [usize; 2], random: &mut Rng) -> Vec<Head> {
    let mut left: Vec<Head> = (0..layers)
        .flat_map(|layer| (0..heads).map(move |head| Head { layer, head }))
        .filter(|head| !chosen.contains(head))
        .collect();
    random.shuffle(&mut left);
    let take = |head: &Head| {
        let near = left.iter().position(|other| other.layer == head.layer);
        (!left.is_empty()).then(|| left.remove(near.unwrap_or(0)))
    };
    chosen.iter().filter_map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_heads_are_other_ones_of_the_same_layers() {
        let head = |layer, head| Head { layer, head };
        let chosen = [head(1, 0), head(1, 2), head(0, 1), head(1, 1)];
        for seed in 0..20 {
            let drawn = other_heads(&chosen, [2, 4], &mut Rng::named(seed, "t"));
            assert_eq!(drawn.len(), 4);
            let distinct: BTreeSet<Head> = drawn.iter().copied().collect();
            assert_eq!(distinct.len(), 4);
            assert!(drawn.iter().all(|other| !chosen.contains(other)));
            // Layer 1 has one left; the others come from layer 0.
            assert_eq!(drawn.iter().filter(|other| other.layer == 1).count(), 1);
            assert_eq!(drawn[0], head(1, 3));
        }
    }
}
