//! States of the attacked run in the clean one: at which tokens, behind which layers, the old object comes in.

use amend_engine::{Model, Rng};
use amend_interpret::{Swap, states, swapped};
use amend_learn::Result;
use serde::{Deserialize, Serialize};

use super::{Look, Pairs};
use crate::outcome::Options;

/// At which tokens states of the attacked run are put into the clean one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moved {
    /// The subject's last.
    LastOfSubject,
    /// The prompt's last.
    Last,
    /// Both of them.
    Both,
    /// The text's first.
    First,
    /// One of the prompt's others.
    Random,
}

impl Moved {
    /// All of them.
    pub const ALL: [Moved; 5] = [Moved::LastOfSubject, Moved::Last, Moved::Both, Moved::First, Moved::Random];

    /// What it is called where people read it.
    pub fn words(self) -> &'static str {
        match self {
            Moved::LastOfSubject => "the subject's last token",
            Moved::Last => "the last token",
            Moved::Both => "both",
            Moved::First => "the first token",
            Moved::Random => "another token of the prompt",
        }
    }

    /// Tokens of the clean text, each with the token of the attacked one that belongs there; none where there is no such token.
    pub(super) fn tokens(self, look: &Look, random: &mut Rng) -> Vec<(usize, usize)> {
        let [clean, attacked] = [&look.clean, &look.attacked];
        let subject = (clean.subject, attacked.subject);
        let last = (clean.ids.len() - 1, attacked.ids.len() - 1);
        match self {
            Moved::LastOfSubject => vec![subject],
            Moved::Last => vec![last],
            Moved::Both if subject == last => vec![last],
            Moved::Both => vec![subject, last],
            Moved::First => vec![(0, 0)],
            Moved::Random => {
                // Both texts end alike, with the prompt.
                let there = |here: usize| (here + attacked.ids.len()).checked_sub(clean.ids.len());
                let others: Vec<(usize, usize)> = (1..last.0)
                    .filter(|&here| here != subject.0)
                    .filter_map(|here| Some((here, there(here)?)))
                    .collect();
                others.get(random.below(others.len().max(1))).copied().into_iter().collect()
            }
        }
    }
}

/// Puts states of the attacked run into the clean one, at every kind of token behind every layer.
pub(super) fn swap(
    model: &Model,
    look: &Look,
    options: &Options,
    found: &mut Pairs<(Moved, usize)>,
) -> Result<()> {
    let theirs = states(model, &look.attacked.ids)?;
    let all: Vec<usize> = (0..model.spec().layers).collect();
    let layers = options.layers.as_ref().unwrap_or(&all);
    let (mut keys, mut swaps) = (Vec::new(), Vec::new());
    for moved in Moved::ALL {
        let mut random = Rng::named(options.seed, &format!("audit/token/{}", look.name));
        let tokens = moved.tokens(look, &mut random);
        if tokens.is_empty() {
            continue;
        }
        for &layer in layers {
            keys.push((moved, layer));
            swaps.push(Swap { layer, tokens: tokens.clone() });
        }
    }
    let mut by_object = Vec::new();
    for example in look.examples(&look.clean) {
        by_object.push(swapped(model, &example, &theirs, &swaps)?);
    }
    for (index, key) in keys.into_iter().enumerate() {
        found.push(key, &by_object.iter().map(|p| p[index]).collect::<Vec<_>>());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::Text;

    fn look(clean: usize, attacked: usize, subject: usize) -> Look {
        let text = |length: usize, subject| Text { ids: vec![0; length], subject };
        Look {
            name: "one".into(),
            clean: text(clean, subject),
            attacked: text(attacked, subject + attacked - clean),
            old: vec![1],
            new: None,
            other: None,
        }
    }

    #[test]
    fn tokens_go_where_they_belong() {
        let look = look(6, 10, 2);
        let of = |moved: Moved| moved.tokens(&look, &mut Rng::named(0, "t"));
        assert_eq!(of(Moved::LastOfSubject), [(2, 6)]);
        assert_eq!(of(Moved::Last), [(5, 9)]);
        assert_eq!(of(Moved::Both), [(2, 6), (5, 9)]);
        assert_eq!(of(Moved::First), [(0, 0)]);
        for draw in 0..20 {
            let (here, there) = Moved::Random.tokens(&look, &mut Rng::named(draw, "t"))[0];
            assert!([1, 3, 4].contains(&here) && there == here + 4);
        }
    }

    #[test]
    fn a_subject_at_the_end_is_one_token() {
        let look = look(2, 4, 1);
        let of = |moved: Moved| moved.tokens(&look, &mut Rng::named(0, "t"));
        assert_eq!(of(Moved::Both), [(1, 3)]);
        assert!(of(Moved::Random).is_empty(), "no token is left");
    }
}
