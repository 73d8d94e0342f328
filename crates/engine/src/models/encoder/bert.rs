//! BERT (Devlin et al., arXiv 1810.04805): norms after the sums, learned positions, token types.
//! RoBERTa (Liu et al., arXiv 1907.11692) is the same but for where positions start and what heads look like.

use super::entry::{Entry, TokenEntry};
use super::heads::{Classifier, Heads, Over, WordHead, decoder};
use super::read::{architecture, attention, block, classes};
use super::tower::{Dense, Summary, SummaryRow, Tower, TowerPaths};
use super::{Family, Parts};
use crate::Result;
use crate::kernels::Activation;
use crate::models::activation;
use crate::models::builder::Builder;
use crate::models::config::Config;
use crate::models::norm::NormKind;
use crate::models::spec::{BlockNames, InnerNames, LLAMA_BLOCK, QkvNames};
use crate::models::stack::Stack;
use crate::tape::Visibility;

pub(super) const FAMILY: Family = Family { model_type: "bert", build: bert };
pub(super) const ROBERTA: Family = Family { model_type: "roberta", build: roberta };
pub(super) const XLM_ROBERTA: Family = Family { model_type: "xlm-roberta", build: roberta };

const BLOCK: BlockNames = BlockNames {
    blocks: "encoder.layer",
    before_attention: None,
    after_attention_sum: Some("attention.output.LayerNorm"),
    before_mlp: None,
    after_mlp_sum: Some("output.LayerNorm"),
    qkv: QkvNames::Separate(["attention.self.query", "attention.self.key", "attention.self.value"]),
    output: "attention.output.dense",
    inner: InnerNames::Plain("intermediate.dense"),
    down: "output.dense",
    ..LLAMA_BLOCK
};

fn bert(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Parts> {
    b.choose_prefix(&["bert.", ""], "embeddings.word_embeddings.weight");
    let tower = tower(config, b, None)?;
    let words = word_embedding(&tower);
    let (d, eps, b) = (tower.hidden, eps(config)?, b.without_prefix());
    let classifier = match architecture(config)? {
        name if name.ends_with("ForTokenClassification") => {
            Some(("classifier", Over::Rows, classes(config)?))
        }
        name if name.ends_with("ForMultipleChoice") => Some(("classifier", Over::Summary, 1)),
        name if name.ends_with("ForQuestionAnswering") => Some(("qa_outputs", Over::Rows, 2)),
        name if name.ends_with("ForNextSentencePrediction") => {
            Some(("cls.seq_relationship", Over::Summary, 2))
        }
        _ if b.has("classifier.weight") => Some(("classifier", Over::Summary, classes(config)?)),
        _ => None,
    };
    let classifier = classifier.map(|(name, over, n)| Classifier::read(b, name, over, n, d)).transpose()?;
    let guesses = b.has("cls.predictions.transform.dense.weight");
    let words = guesses.then(|| -> Result<_> {
        const DECODER: [&str; 3] =
            ["cls.predictions.decoder.weight", "cls.predictions.bias", "cls.predictions.decoder.bias"];
        Ok(WordHead {
            dense: b.linear("cls.predictions.transform.dense", [d, d], true)?,
            activation: activation(config, "hidden_act", "gelu")?,
            norm: b.norm("cls.predictions.transform.LayerNorm", d, NormKind::Layer, eps)?,
            decoder: decoder(b, words.0, DECODER, config.flag("tie_word_embeddings", true)?, [words.1, d])?,
        })
    });
    let words = words.transpose()?;
    // In pretraining the relation stands beside the words; alone it is a classifier.
    let relates = classifier.is_none() && b.has("cls.seq_relationship.weight");
    let relation = relates.then(|| b.linear("cls.seq_relationship", [2, d], true)).transpose()?;
    Ok(Parts { text: Some(tower), heads: Heads { classifier, words, relation }, ..Default::default() })
}

fn roberta(config: &Config<'_>, b: &mut Builder<'_>) -> Result<Parts> {
    b.choose_prefix(&["roberta.", ""], "embeddings.word_embeddings.weight");
    let padding = config.count("pad_token_id")?.unwrap_or(1);
    let tower = tower(config, b, Some(padding as u32))?;
    let words = word_embedding(&tower);
    let (d, eps, b) = (tower.hidden, eps(config)?, b.without_prefix());
    let name = architecture(config)?;
    let classifier = if name.ends_with("ForTokenClassification") {
        Some(Classifier::read(b, "classifier", Over::Rows, classes(config)?, d)?)
    } else if name.ends_with("ForMultipleChoice") {
        Some(Classifier::read(b, "classifier", Over::Summary, 1, d)?)
    } else if name.ends_with("ForQuestionAnswering") {
        Some(Classifier::read(b, "qa_outputs", Over::Rows, 2, d)?)
    } else if b.has("classifier.dense.weight") {
        Some(Classifier::read_deep(b, "classifier", classes(config)?, d)?)
    } else {
        None
    };
    let guesses = b.has("lm_head.dense.weight");
    let words = guesses.then(|| -> Result<_> {
        const DECODER: [&str; 3] = ["lm_head.decoder.weight", "lm_head.bias", "lm_head.decoder.bias"];
        Ok(WordHead {
            dense: b.linear("lm_head.dense", [d, d], true)?,
            activation: Activation::Gelu,
            norm: b.norm("lm_head.layer_norm", d, NormKind::Layer, eps)?,
            decoder: decoder(b, words.0, DECODER, config.flag("tie_word_embeddings", true)?, [words.1, d])?,
        })
    });
    let words = words.transpose()?;
    Ok(Parts { text: Some(tower), heads: Heads { classifier, words, relation: None }, ..Default::default() })
}

fn eps(config: &Config<'_>) -> Result<f32> {
    Ok(config.float("layer_norm_eps")?.unwrap_or(1e-12) as f32)
}

/// The embedding matrix and its number of rows.
fn word_embedding(tower: &Tower) -> (crate::ParamId, usize) {
    match &tower.entry {
        Entry::Tokens(entry) => (entry.words, entry.vocabulary),
        Entry::Patches(_) => unreachable!("BERT reads tokens"),
    }
}

/// The model without heads; `padding` is the token behind whose number RoBERTa counts positions.
fn tower(config: &Config<'_>, b: &mut Builder<'_>, padding: Option<u32>) -> Result<Tower> {
    if let Some(kind) = config.text("position_embedding_type")?.filter(|&kind| kind != "absolute") {
        return Err(config
            .unsupported(format!("position_embedding_type \"{kind}\" is not supported; only \"absolute\"")));
    }
    let d = config.size_or("hidden_size", 768)?;
    let vocabulary = config.size_or("vocab_size", 30522)?;
    let rows = config.size_or("max_position_embeddings", 512)?;
    let kinds = config.count("type_vocab_size")?.unwrap_or(2);
    let eps = eps(config)?;
    let before = padding.map_or(0, |token| token as usize + 1);
    let Some(context) = rows.checked_sub(before).filter(|&n| n > 0) else {
        return Err(config.error(format!("\"max_position_embeddings\" is {rows}, which leaves no position")));
    };
    // BERT run as a decoder sees only what came before.
    let visibility =
        if config.flag("is_decoder", false)? { Visibility::Causal } else { Visibility::BothWays };
    let attention = attention(config, d, 12)?;
    let words = b.tensor("embeddings.word_embeddings.weight", &[vocabulary, d])?;
    let positions = b.tensor("embeddings.position_embeddings.weight", &[rows, d])?;
    let types = match kinds {
        0 => None,
        n => Some((b.tensor("embeddings.token_type_embeddings.weight", &[n, d])?, n)),
    };
    let entry_norm = b.norm("embeddings.LayerNorm", d, NormKind::Layer, eps)?;
    let intermediate = config.size_or("intermediate_size", 3072)?;
    let activation = activation(config, "hidden_act", "gelu")?;
    let spec = block(&BLOCK, [d, intermediate], attention, activation, eps);
    let layers = config.size_or("num_hidden_layers", 12)?;
    let stack = Stack::build(b, vec![spec; layers], &[])?;
    let dense = if b.has("pooler.dense.weight") {
        let linear = b.linear("pooler.dense", [d, d], true)?;
        Some(Dense { linear, activation: Some(Activation::Tanh) })
    } else {
        None
    };
    let entry = TokenEntry { words, types, positions, padding, context, vocabulary };
    Ok(Tower {
        hidden: d,
        entry: Entry::Tokens(entry),
        entry_norm: Some(entry_norm),
        stack,
        paths: TowerPaths {
            prefix: b.prefix().to_owned(),
            embed: "embeddings",
            positions: "embeddings.position_embeddings",
            block: spec,
        },
        visibility,
        final_norm: None,
        summary: Summary { row: SummaryRow::First, norm: None, dense },
        projection: None,
    })
}
