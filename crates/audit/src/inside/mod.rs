//! Where the old object comes from when an attack brings it back.

mod cut;
mod moved;

use std::collections::BTreeMap;
use std::ops::Range;

use amend_engine::tokenizer::Tokenizer;
use amend_engine::{Example, Model, Taps};
use amend_interpret::heads::added;
use amend_interpret::{Head, HeadVectors, Held, attribution, held, lens, probabilities, ranks};
use amend_learn::{Error, Result};
use amend_run::{Progress, RunError, Stop};

use crate::asking::{Answered, Asked, of_own_prompt, split, subject};
use crate::case::Case;
use crate::estimate::Estimate;
use crate::outcome::{CutOut, Inside, Objects, Options, Selected, Swapped};
use crate::prefix::Prefix;

pub use cut::Cut;
pub use moved::Moved;

use cut::Cutting;
use moved::swap;

/// Among how many first tokens an object counts as decoded.
const DECODED: usize = 15;

/// Of so many heads one is taken out unless asked otherwise, but of all at least [`FEWEST`].
const HEADS_PER_SELECTED: usize = 50;
const FEWEST: usize = 2;

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

#[cfg(test)]
mod tests {
    use super::*;

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
