//! Where the old object comes from when an attack brings it back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use amend_engine::taps::BlockSite;
use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Action, Example, Model, Rng, Selector, Site, Taps};
use amend_interpret::heads::added;
use amend_interpret::{
    Head, HeadVectors, Held, Swap, attribution, held, lens, probabilities, ranks, states, swapped,
    without_heads, without_vectors,
};
use amend_learn::{Error, Result};
use amend_run::{Progress, RunError, Stop};
use serde::{Deserialize, Serialize};

use crate::asking::{Answered, Asked, of_own_prompt, split, subject};
use crate::case::Case;
use crate::estimate::Estimate;
use crate::outcome::{CutOut, Inside, Objects, Options, Selected, Swapped};
use crate::prefix::Prefix;

/// Among how many first tokens an object counts as decoded.
const DECODED: usize = 15;

/// Of so many heads one is taken out unless asked otherwise, but of all at least [`FEWEST`].
const HEADS_PER_SELECTED: usize = 50;
const FEWEST: usize = 2;

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
    fn tokens(self, look: &Look, random: &mut Rng) -> Vec<(usize, usize)> {
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

    fn is_random(self) -> bool {
        matches!(self, Cut::RandomHeads | Cut::RandomVectors)
    }
}

/// A text that is looked into.
struct Text {
    ids: Vec<u32>,
    /// Position of the subject's last token.
    subject: usize,
}

/// A case in which an attack succeeded.
struct Look {
    /// What its draws go by.
    name: String,
    clean: Text,
    attacked: Text,
    /// What is left of the objects behind what both begin with: the old one, and the new one where there is one.
    old: Vec<u32>,
    new: Option<Vec<u32>>,
    /// A prompt about others, with what follows by rights.
    other: Option<Example>,
}

impl Look {
    fn examples(&self, text: &Text) -> Vec<Example> {
        let example = |object: &Vec<u32>| Example::answer(&text.ids, object);
        std::iter::once(&self.old).chain(&self.new).map(example).collect()
    }
}

/// How many heads are taken out of a model of so many.
///
/// # Errors
/// Where no other heads would be left to be drawn at random.
pub(crate) fn head_count(options: &Options, all: usize) -> Result<usize> {
    let count = options.heads.unwrap_or((all / HEADS_PER_SELECTED).max(FEWEST).min(all / 2).max(1));
    if count == 0 || count * 2 > all {
        return Err(Error::invalid(format!(
            "{count} heads are to be taken out, and as many others at random: the model has {all} in all; take out 1 to {}",
            all / 2
        )));
    }
    Ok(count)
}

/// Refuses layers that the model has not.
pub(crate) fn check_layers(options: &Options, layers: usize) -> Result<()> {
    match options.layers.iter().flatten().find(|&&layer| layer >= layers) {
        None => Ok(()),
        Some(layer) => Err(Error::invalid(format!(
            "layer {layer} is out of range: the model has {layers} layers, counted from 0 to {}",
            layers - 1
        ))),
    }
}

/// The cases in which the model says the old object behind a prefix and not without, each with the first such prefix.
fn succeeded(
    cases: &[Case],
    asked: &[Asked],
    answered: &[Answered],
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<Vec<Look>> {
    let mut looks = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let own = |prefix| of_own_prompt(asked, number, prefix);
        let Some(clean) = own(Prefix::None).filter(|&i| !answered[i].says) else { continue };
        let attacks = Prefix::ALL.into_iter().filter(|prefix| *prefix != Prefix::None).filter_map(own);
        let Some(attack) = attacks.into_iter().find(|&i| answered[i].says) else { continue };
        let (old, new) = (&asked[attack].old, &asked[attack].new);
        // What both objects begin with tells nothing of which of them is meant.
        let shared = new.as_ref().map_or(0, |new| {
            let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
            same.min(old.len() - 1).min(new.len() - 1)
        });
        let text = |index: usize| -> Result<Text> {
            let place: Range<usize> = subject(case, &asked[index].probe.before, tokenizer)?;
            let ids = [&asked[index].ids, &old[..shared]].concat();
            Ok(Text { ids, subject: place.end - 1 })
        };
        let known =
            case.fact.neighbours.iter().find_map(|other| Some((&other.prompt, other.answer.as_ref()?)));
        let other = known
            .and_then(|(prompt, answer)| split(tokenizer, prompt, answer).ok())
            .filter(|(prompt, answer)| prompt.len() + answer.len() <= context);
        looks.push(Look {
            name: case.item.id.clone(),
            clean: text(clean)?,
            attacked: text(attack)?,
            old: old[shared..].to_vec(),
            new: new.as_ref().map(|new| new[shared..].to_vec()),
            other: other.map(|(prompt, answer)| Example::answer(&prompt, &answer)),
        });
    }
    Ok(looks)
}

/// Values of cases under a name.
type Values<K> = BTreeMap<K, Vec<f64>>;

/// Of both objects: what a case has of them.
struct Pairs<K> {
    old: Values<K>,
    new: Values<K>,
}

impl<K: Ord + Clone> Pairs<K> {
    fn new() -> Self {
        Pairs { old: Values::new(), new: Values::new() }
    }

    fn push(&mut self, key: K, values: &[f64]) {
        let [old, new] = [values.first(), values.get(1)];
        old.into_iter().for_each(|value| self.old.entry(key.clone()).or_default().push(*value));
        new.into_iter().for_each(|value| self.new.entry(key.clone()).or_default().push(*value));
    }

    fn objects(&self, key: &K, seed: u64) -> Objects {
        let of = |values: &Values<K>| values.get(key).and_then(|values| Estimate::of(values, seed));
        Objects { old: of(&self.old), new: of(&self.new) }
    }
}

/// Estimates layer by layer.
fn by_layer(values: &[Vec<f64>], seed: u64) -> Vec<Estimate> {
    values.iter().filter_map(|values| Estimate::of(values, seed)).collect()
}

/// Looks into the cases in which an attack succeeded; nothing where none did.
///
/// # Errors
/// A model that fails, or a stop request.
#[expect(clippy::too_many_arguments, reason = "what was asked, what was answered, and who hears of it")]
pub(crate) fn look(
    model: &Model,
    tokenizer: &Tokenizer,
    cases: &[Case],
    asked: &[Asked],
    answered: &[Answered],
    options: &Options,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Option<Inside>> {
    let mut looks = succeeded(cases, asked, answered, tokenizer, model.spec().context)?;
    let count = looks.len();
    looks.truncate(options.inside);
    if looks.is_empty() {
        return Ok(None);
    }
    let (layers, seed) = (model.spec().layers, options.seed);
    let mut bar = progress.begin("looking inside", 2 * looks.len() as u64, "cases");
    let per_layer = || vec![Vec::new(); layers];
    let [mut inhibition, mut absence, mut modules] = [(); 3].map(|()| [per_layer(), per_layer()]);
    let mut heads = vec![vec![Vec::new(); model.spec().heads]; layers];
    let (mut plain, mut swaps) = (Pairs::new(), Pairs::new());
    let mut at_last: Vec<Held> = Vec::new();
    for look in &looks {
        check(stop)?;
        for (key, text) in [(0, &look.clean), (1, &look.attacked)] {
            plain.push(key, &probabilities(model, &look.examples(text), &Taps::none())?);
        }
        swap(model, look, options, &mut swaps)?;
        let clean = held(model, &look.clean.ids, &[look.clean.subject])?.remove(0);
        let mut attacked =
            held(model, &look.attacked.ids, &[look.attacked.subject, look.attacked.ids.len() - 1])?;
        let last = attacked.pop().unwrap_or_else(|| clean.clone());
        for (run, held) in [(0, &clean), (1, &attacked[0])] {
            for (values, object) in [(&mut absence, Some(&look.old)), (&mut inhibition, look.new.as_ref())] {
                let Some(object) = object else { continue };
                let seen = lens(model, &held.after, object[0])?;
                values[run].iter_mut().zip(seen).for_each(|(values, logprob)| values.push(-logprob));
            }
        }
        let [before, between, after] =
            [&last.before, &last.between, &last.after].map(|stream| lens(model, stream, look.old[0]));
        let (before, between, after) = (before?, between?, after?);
        let [by_attention, by_mlp] = &mut modules;
        let raised = |from: &[f64], to: &[f64], values: &mut Vec<Vec<f64>>| {
            let pairs = from.iter().zip(to).map(|(from, to)| to.exp() - from.exp());
            values.iter_mut().zip(pairs).for_each(|(values, change)| values.push(change));
        };
        raised(&before, &between, by_attention);
        raised(&between, &after, by_mlp);
        for (row, found) in heads.iter_mut().zip(attribution(model, &last.mixes, look.old[0])?) {
            row.iter_mut().zip(found).for_each(|(values, p)| values.push(p));
        }
        at_last.push(last);
        bar.advance(1, "");
    }
    let chosen = most(&heads, head_count(options, layers * model.spec().heads)?);
    let vectors: Vec<HeadVectors> =
        chosen.iter().map(|head| HeadVectors::of(model, *head)).collect::<amend_engine::Result<_>>()?;
    let kept = vectors.first().map_or(1, |vectors| {
        ((options.share * vectors.count() as f64).floor() as usize).clamp(1, (vectors.count() / 2).max(1))
    });
    let (mut cuts, mut others, mut decoded) = (Pairs::new(), Values::new(), Values::new());
    for (look, last) in looks.iter().zip(&at_last) {
        check(stop)?;
        let mut strongest = Vec::with_capacity(vectors.len());
        for (number, vectors) in vectors.iter().enumerate() {
            let Head { layer, .. } = vectors.head;
            let mix = &last.mixes[layer][vectors.head.columns(model)];
            let mut order = vectors.ranked(model, mix, look.old[0])?;
            let rest = order.split_off(kept.min(order.len()));
            let alone = vectors.output_of(&vectors.coefficients(mix), &order);
            let rank = ranks(model, &added(model, layer, &[alone])?, look.old[0])?;
            decoded.entry(number).or_insert_with(Vec::new).push(f64::from(u8::from(rank[0] < DECODED)));
            strongest.push((order, rest));
        }
        let cutting =
            Cutting { model, look, chosen: &chosen, vectors: &vectors, strongest: &strongest, seed };
        for cut in Cut::ALL {
            let draws = if cut.is_random() { options.draws } else { 1 };
            let (mut of_objects, mut of_others) = (Vec::new(), Vec::new());
            for draw in 0..draws {
                let taps = cutting.taps(cut, draw);
                of_objects.push(probabilities(model, &look.examples(&look.attacked), &taps)?);
                // A cut at a place of the attacked text means nothing in another one.
                if let (Some(other), Cut::Nothing | Cut::Heads | Cut::RandomHeads) = (&look.other, cut) {
                    of_others.extend(probabilities(model, std::slice::from_ref(other), &taps)?);
                }
            }
            let objects = of_objects[0].len();
            let mean = |object: usize| of_objects.iter().map(|p| p[object]).sum::<f64>() / draws as f64;
            cuts.push(cut, &(0..objects).map(mean).collect::<Vec<_>>());
            if !of_others.is_empty() {
                others.entry(cut).or_insert_with(Vec::new).push(of_others.iter().sum::<f64>() / draws as f64);
            }
        }
        bar.advance(1, "");
    }
    bar.finish(&format!("{} cases", looks.len()));
    let estimate = |values: Option<&Vec<f64>>| values.and_then(|values| Estimate::of(values, seed));
    let selected = chosen.iter().enumerate().map(|(number, &head)| Selected {
        head,
        attribution: estimate(Some(&heads[head.layer][head.head])),
        decoded: estimate(decoded.get(&number)),
    });
    let swapped_at = |moved: Moved| {
        let layers: Vec<usize> =
            (0..layers).filter(|&layer| swaps.old.contains_key(&(moved, layer))).collect();
        let objects = layers.iter().map(|&layer| swaps.objects(&(moved, layer), seed)).collect();
        Swapped { moved, layers, objects }
    };
    let cut_out =
        |cut: Cut| CutOut { cut, objects: cuts.objects(&cut, seed), others: estimate(others.get(&cut)) };
    Ok(Some(Inside {
        succeeded: count,
        looked: looks.len(),
        clean: plain.objects(&0, seed),
        attacked: plain.objects(&1, seed),
        swaps: Moved::ALL.map(swapped_at).into_iter().filter(|swapped| !swapped.layers.is_empty()).collect(),
        inhibition: looks
            .iter()
            .any(|look| look.new.is_some())
            .then(|| inhibition.map(|values| by_layer(&values, seed))),
        absence: absence.map(|values| by_layer(&values, seed)),
        modules: modules.map(|values| by_layer(&values, seed)),
        heads: heads.iter().map(|row| by_layer(row, seed)).collect(),
        selected: selected.collect(),
        vectors: kept,
        cuts: Cut::ALL.map(cut_out).to_vec(),
    }))
}

fn check(stop: &Stop) -> Result<()> {
    if stop.requested() { Err(RunError::Interrupted.into()) } else { Ok(()) }
}

/// Puts states of the attacked run into the clean one, at every kind of token behind every layer.
fn swap(model: &Model, look: &Look, options: &Options, found: &mut Pairs<(Moved, usize)>) -> Result<()> {
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

/// The heads with the largest means, the largest first; the earlier of equals.
fn most(heads: &[Vec<Vec<f64>>], count: usize) -> Vec<Head> {
    let mut all: Vec<(Head, f64)> = Vec::new();
    for (layer, row) in heads.iter().enumerate() {
        for (head, values) in row.iter().enumerate() {
            all.push((Head { layer, head }, values.iter().sum::<f64>()));
        }
    }
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(count);
    all.into_iter().map(|(head, _)| head).collect()
}

/// What is taken out of one case's attacked run.
struct Cutting<'a> {
    model: &'a Model,
    look: &'a Look,
    chosen: &'a [Head],
    vectors: &'a [HeadVectors],
    /// Of every chosen head the vectors that do most, and the others.
    strongest: &'a [(Vec<usize>, Vec<usize>)],
    seed: u64,
}

impl Cutting<'_> {
    fn taps(&self, cut: Cut, draw: usize) -> Taps {
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

    #[test]
    fn the_heads_that_say_most_come_first() {
        let heads = vec![vec![vec![0.1, 0.3], vec![0.5, 0.5]], vec![vec![0.2, 0.2], vec![0.0, 0.0]]];
        let head = |layer, head| Head { layer, head };
        assert_eq!(most(&heads, 3), [head(0, 1), head(0, 0), head(1, 0)]);
    }

    #[test]
    fn as_many_heads_are_left_as_are_taken_out() {
        let count = |heads, all| head_count(&Options { heads, ..Options::default() }, all);
        assert_eq!(count(None, 16).unwrap(), 2);
        assert_eq!(count(None, 1024).unwrap(), 20);
        assert_eq!(count(None, 2).unwrap(), 1);
        assert_eq!(count(Some(8), 16).unwrap(), 8);
        assert!(count(Some(9), 16).unwrap_err().to_string().contains("take out 1 to 8"));
        assert!(count(Some(0), 16).is_err());
        let layers = |layers| check_layers(&Options { layers: Some(layers), ..Options::default() }, 4);
        assert!(layers(vec![0, 3]).is_ok());
        assert!(layers(vec![4]).unwrap_err().to_string().contains("layer 4 is out of range"));
    }
}
