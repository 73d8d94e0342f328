//! Linear probes: can the forgotten answer still be read off the hidden states?

use std::collections::BTreeMap;

use amend_engine::kernels::linalg::Matrix;
use amend_engine::taps::BlockSite;
use amend_engine::{Batch, Example, Graph, Model, Rng, Site, Taps, split_by_tokens};
use amend_eval::questions::{answer_of, question_of};
use amend_eval::scorers::content_words;
use amend_learn::{Error, Result};
use amend_run::{Content, Figure, Record, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaks::SAMPLES;
use super::ridge::Ridge;
use super::{Attacker, Curve, Findings, Target};
use crate::context::Context;
use crate::data::Sets;
use crate::measure::Said;
use crate::recipe::UnlearnRecipe;
use amend_learn::work::{Work, tokens};

/// Tokens of a pass: the states of all blocks are held at a time.
const PASS: usize = 1024;

/// # What it does
/// Trains a linear probe on the hidden states of every block to tell the answers of the retain set apart, and lets it read
/// those of the forget set. What it still reads there the model still computes, whatever it says.
///
/// # When to use it
/// To see whether forgetting reached the representations, or only the last blocks, which turn them into words.
///
/// # What it logs
/// `selectivity`: the share of forgotten answers that the probe of the best block reads, less the share that a control reads,
/// which is the same probe trained on shuffled answers. Beside it the two shares, and both over the blocks as curves.
///
/// # Source
/// Probing: Alain & Bengio, arXiv 1610.01644; control labels: Hewitt & Liang, arXiv 1909.03368; probes of unlearned models:
/// Lynch et al., arXiv 2402.16835.
///
/// # Inferred parts
/// What is read is the first token of a content word of the answer, at the token before it, with what the answer says up to
/// there given: of the words that at least two retain answers have the rarest, for frequent ones belong to the wording. The probe is a ridge regression on one column per such token, trained on as many retain records as models are
/// measured on; its penalty is the one of five that does best when every record is left out once. It never sees a record of the
/// forget set, so it cannot memorise one. Forgotten answers count whose token some retain record has, too.
///
/// # Expected result
/// In the gold model next to nothing. Suppressed knowledge is read in middle blocks as well as before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {}

impl Attacker for Probe {
    fn check(&self, sets: &Sets, _recipe: &UnlearnRecipe) -> Result<()> {
        let has_questions =
            |records: &[Record]| records.iter().any(|r| !matches!(r.content, Content::Text(_)));
        for (records, what) in [(&sets.forget_eval, "forget"), (&sets.retain_eval, "retain")] {
            if !has_questions(records) {
                return Err(Error::conflict_at(
                    "unlearn.attack",
                    format!(
                        "attack = \"probe\" reads answers to questions, and the {what} set has none; give records with questions, or \
                     leave the attack out"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn work(&self, context: &Context<'_>) -> Result<Work> {
        let [kept, forgotten] = sides(context)?;
        Ok(Work { scored: tokens(&kept.read) + tokens(&forgotten.read), ..Work::default() })
    }

    fn attack(&self, run: &mut Run<'_>, target: Target<'_>, context: &Context<'_>) -> Result<Findings> {
        let [kept, all_forgotten] = sides(context)?;
        let mut classes: Vec<u32> = kept.label.clone();
        classes.sort_unstable();
        classes.dedup();
        let forgotten = all_forgotten.with_labels(&classes);
        let class = |label: &u32| classes.binary_search(label).unwrap_or_default();
        let labels: Vec<usize> = kept.label.iter().map(class).collect();
        let mut shuffled = labels.clone();
        Rng::named(context.seed, "probe control").shuffle(&mut shuffled);
        let wanted: Vec<usize> = forgotten.label.iter().map(class).collect();

        let mut bar = run.progress.begin(run.stage()?, target.model.spec().layers as u64, "probes");
        let mut blocks = Vec::new();
        if !wanted.is_empty() {
            let states = [states(target.model, &kept.read)?, states(target.model, &forgotten.read)?];
            // A model that diverged has no states to read.
            let is_finite = |states: &Matrix| states.values().iter().all(|x| x.is_finite());
            let readable = states.iter().flatten().all(is_finite);
            for (trained_on, read) in states[0].iter().zip(&states[1]).filter(|_| readable) {
                let ridge = Ridge::fit(trained_on, &labels, classes.len())?;
                let (said, control) = (ridge.classes_of(read, &labels)?, ridge.classes_of(read, &shuffled)?);
                blocks.push(Block { hits: hits(&said, &wanted), control: hits(&control, &wanted), said });
                bar.advance(1, "");
            }
        }
        bar.finish(&format!("{} answers", wanted.len()));
        let spell = |class: usize| context.tokenizer.decode(&[classes[class]], true);
        let mut samples = Vec::new();
        if let Some(best) = best(&blocks) {
            for (i, said) in best.said.iter().enumerate().take(SAMPLES) {
                let (question, expected) = (forgotten.asked[i].clone(), spell(wanted[i])?.trim().to_owned());
                samples.push(Said { question, expected, answer: spell(*said)?.trim().to_owned() });
            }
        }
        Ok(findings(&blocks, samples))
    }
}

/// What the probe of one block made of the forgotten answers.
struct Block {
    said: Vec<usize>,
    hits: Vec<f64>,
    control: Vec<f64>,
}

impl Block {
    fn selectivity(&self) -> Figure {
        let differences: Vec<f64> =
            self.hits.iter().zip(&self.control).map(|(hit, control)| hit - control).collect();
        Figure::mean(&differences)
    }
}

fn hits(said: &[usize], wanted: &[usize]) -> Vec<f64> {
    said.iter().zip(wanted).map(|(said, wanted)| f64::from(u8::from(said == wanted))).collect()
}

/// The block that gives most away, the first of equals.
fn best(blocks: &[Block]) -> Option<&Block> {
    let height = |block: &Block| block.selectivity().value;
    blocks.iter().reduce(|best, block| if height(block) > height(best) { block } else { best })
}

fn findings(blocks: &[Block], samples: Vec<Said>) -> Findings {
    let of_best = |figure: &dyn Fn(&Block) -> Figure| best(blocks).map_or(Figure::exact(f64::NAN, 0), figure);
    let share = |of: &dyn Fn(&Block) -> &Vec<f64>| of_best(&|block| Figure::mean(of(block)));
    let curve = |title: &str, of: &dyn Fn(&Block) -> &Vec<f64>| Curve {
        title: title.into(),
        x: "block".into(),
        y: "share read".into(),
        points: blocks
            .iter()
            .enumerate()
            .map(|(l, block)| (l as f64, Figure::mean(of(block)).value))
            .collect(),
    };
    Findings {
        reading: "A linear probe learns to read answers off the hidden states of each block from the retain set, and reads those \
                  of the forget set: the first token of what the answer has to say. The control learnt shuffled answers. The \
                  first figure is the difference at the block where it is largest. What lies above the gold model is still \
                  computed, whether it is said or not."
            .into(),
        figures: vec![("selectivity".into(), of_best(&Block::selectivity))],
        beside: vec![
            ("share read at that block".into(), share(&|block| &block.hits)),
            ("share read by the control".into(), share(&|block| &block.control)),
        ],
        curves: vec![
            curve("Forgotten answers that a linear probe reads", &|block| &block.hits),
            curve("Forgotten answers that the control reads", &|block| &block.control),
        ],
        samples,
        ..Findings::default()
    }
}

/// Answers to be read: what a model reads up to the token, and the token.
#[derive(Default)]
struct Answers {
    asked: Vec<String>,
    read: Vec<Example>,
    label: Vec<u32>,
}

impl Answers {
    /// Those of records whose answers have something to say.
    fn of(records: &[Record], words: &Frequencies, context: &Context<'_>) -> Result<Self> {
        let mut all = Answers::default();
        for record in records.iter().filter(|record| !matches!(record.content, Content::Text(_))) {
            let (asked, answer) = (question_of(&record.content), answer_of(&record.content));
            let mut example = context.encoder.encode(&record.content)?;
            example.truncate(context.reference.spec().context);
            let said = content_words(&asked, &answer);
            let Some(word) = words.rarest(&said) else { continue };
            let Some(at) = token_of(word, &example, context)? else { continue };
            all.asked.push(asked);
            all.label.push(example.ids[at]);
            example.truncate(at);
            all.read.push(example);
        }
        Ok(all)
    }

    /// Those whose label is one of these, which are in order.
    fn with_labels(&self, labels: &[u32]) -> Self {
        let kept = (0..self.label.len()).filter(|&i| labels.binary_search(&self.label[i]).is_ok());
        let mut all = Answers::default();
        for i in kept {
            all.asked.push(self.asked[i].clone());
            all.read.push(self.read[i].clone());
            all.label.push(self.label[i]);
        }
        all
    }
}

/// The answers of the retain and of the forget set as they are measured.
fn sides(context: &Context<'_>) -> Result<[Answers; 2]> {
    let kept = &context.sets.retain_eval;
    let kept = &kept[..kept.len().min(context.evaluation.limit)];
    let words = Frequencies::of(kept);
    Ok([Answers::of(kept, &words, context)?, Answers::of(context.measured_forget(), &words, context)?])
}

/// In how many answers a content word stands.
struct Frequencies(BTreeMap<String, usize>);

impl Frequencies {
    fn of(records: &[Record]) -> Self {
        let mut all = BTreeMap::new();
        for record in records {
            for word in content_words(&question_of(&record.content), &answer_of(&record.content)) {
                *all.entry(word).or_default() += 1;
            }
        }
        Frequencies(all)
    }

    /// The rarest of these words that is in at least two answers, the first of equals.
    fn rarest<'w>(&self, words: &'w [String]) -> Option<&'w str> {
        let counted = words.iter().filter_map(|word| Some((*self.0.get(word)?, word.as_str())));
        counted.filter(|(count, _)| *count >= 2).min_by_key(|(count, _)| *count).map(|(_, word)| word)
    }
}

/// The place of the token that begins a word of an answer; `None` where no token does, or none before it is read.
fn token_of(word: &str, example: &Example, context: &Context<'_>) -> Result<Option<usize>> {
    let Some(first) = example.scored.iter().position(|&scored| scored).filter(|&first| first > 0) else {
        return Ok(None);
    };
    let text = |until: usize| context.tokenizer.decode(&example.ids[first..until], true);
    let Some(start) = start_of(word, &text(example.ids.len())?) else { return Ok(None) };
    for at in first..example.ids.len() {
        if text(at + 1)?.len() > start {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Where a word, which is in lower case, begins in a text.
fn start_of(word: &str, text: &str) -> Option<usize> {
    let mut start = 0;
    for run in text.split(|c: char| !c.is_alphanumeric()) {
        if run.to_lowercase() == word {
            return Some(start);
        }
        start += run.len() + text[start + run.len()..].chars().next().map_or(0, char::len_utf8);
    }
    None
}

/// The states that leave every block at the last token of what is read: per block one row per example.
fn states(model: &Model, read: &[Example]) -> Result<Vec<Matrix>> {
    let layers = model.spec().layers;
    let site = |layer| Site::Block(layer, BlockSite::ResidPost);
    let mut taps = Taps::none();
    for layer in 0..layers {
        taps.read(site(layer));
    }
    let mut all = vec![Matrix::zeros(read.len(), model.spec().hidden); layers];
    let lengths: Vec<usize> = read.iter().map(|example| example.ids.len()).collect();
    for piece in split_by_tokens(&lengths, PASS)? {
        let batch = Batch::new(&read[piece.clone()])?;
        model.hidden(&mut Graph::inference(&model.params), &batch, &taps)?;
        for (layer, states) in all.iter_mut().enumerate() {
            for reading in taps.take(site(layer)) {
                let width = reading.tensor.columns();
                for (row, origin) in reading.origins.iter().enumerate() {
                    let example = piece.start + origin.sequence as usize;
                    if origin.position as usize + 1 == lengths[example] {
                        let values = &reading.tensor.f32()[row * width..(row + 1) * width];
                        let out = states.row_mut(example).iter_mut();
                        out.zip(values).for_each(|(out, &value)| *out = f64::from(value));
                    }
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_where_they_stand() {
        assert_eq!(start_of("lima", " Ann was born in Lima."), Some(17));
        assert_eq!(start_of("ann", "Anna – Ann"), Some(9));
        assert_eq!(start_of("bo", "Bob"), None);
    }

    #[test]
    fn words_of_the_wording_are_passed_over() {
        let record = |answer: &str| {
            Record::from(Content::Question { question: "What?".into(), answer: answer.into() })
        };
        let words = Frequencies::of(&["Ann keeps bees", "Bo keeps bees", "Cy keeps figs"].map(record));
        let of = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(words.rarest(&of(&["keeps", "bees", "dogs"])), Some("bees"));
        // Words of one answer, or of none, teach nothing.
        assert_eq!(words.rarest(&of(&["keeps", "figs"])), Some("keeps"));
        assert_eq!(words.rarest(&of(&["ann", "dogs"])), None);
    }

    #[test]
    fn a_probe_that_reads_no_more_than_its_control_found_nothing() {
        let block = |hits: &[f64], control: &[f64]| Block {
            said: vec![0; hits.len()],
            hits: hits.to_vec(),
            control: control.to_vec(),
        };
        let blocks = [
            block(&[1.0, 1.0], &[1.0, 1.0]),
            block(&[1.0, 0.0], &[0.0, 0.0]),
            block(&[0.0, 1.0], &[0.0, 0.0]),
        ];
        let found = findings(&blocks, Vec::new());
        assert_eq!(found.figures[0].1.value, 0.5);
        assert_eq!(found.beside[0].1.value, 0.5);
        assert_eq!(found.curves[0].points, [(0.0, 1.0), (1.0, 0.5), (2.0, 0.5)]);
        assert!(findings(&[], Vec::new()).figures[0].1.value.is_nan());
    }
}
