//! Training a small byte-level BPE vocabulary (Sennrich et al. 2016; on bytes: Radford et al. 2019).
//!
//! Texts are cut into words by Llama 3's expression: contractions, letters with at most one leading
//! symbol, numbers of up to three digits, punctuation and runs of white space. Merges never cross
//! these borders. Every byte is in the vocabulary, so every text can be encoded.

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, TokenizerBuilder, TokenizerImpl};

use super::special::SpecialTokens;
use super::{FILE, Tokenizer};
use crate::{Error, Result};

const BOS: &str = "<|bos|>";
const EOS: &str = "<|eos|>";
const PAD: &str = "<|pad|>";

const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

type BpeTokenizer =
    TokenizerImpl<BPE, tokenizers::NormalizerWrapper, PreTokenizerWrapper, TemplateProcessing, ByteLevel>;

/// Trains a tokenizer of at most `vocab_size` tokens on `texts`; fewer where the texts hold no more
/// pairs to merge. The same texts in the same order give the same vocabulary.
///
/// `<|bos|>`, `<|eos|>` and `<|pad|>` get the ids 0, 1 and 2, `special_tokens` the following ones.
/// Encoding with special tokens puts `<|bos|>` in front. Fails where `vocab_size` has no room for
/// these and the 256 bytes, or where a special token is empty or given twice.
pub fn train_bpe<'a>(
    texts: impl Iterator<Item = &'a str>,
    vocab_size: usize,
    special_tokens: &[&str],
) -> Result<Tokenizer> {
    let names: Vec<&str> = [BOS, EOS, PAD].iter().chain(special_tokens).copied().collect();
    check(vocab_size, &names)?;
    let failed = |e: tokenizers::Error| Error::invalid(format!("the tokenizer could not be trained: {e}"));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .special_tokens(names.iter().map(|name| AddedToken::from(*name, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut bpe = untrained().map_err(failed)?;
    // The trainer spreads the texts over threads and needs an iterator it can send to them.
    let texts: Vec<&str> = texts.collect();
    bpe.train(&mut trainer, texts.into_iter()).map_err(failed)?;

    let mut inner =
        tokenizers::Tokenizer::from_bytes(bpe.to_string(false).map_err(failed)?).map_err(failed)?;
    inner.add_special_tokens(&names.iter().map(|n| AddedToken::from(*n, true)).collect::<Vec<_>>());
    let id = |token: &str| inner.token_to_id(token);
    let spelled = json!({ "bos_token": BOS, "eos_token": EOS, "pad_token": PAD });
    let special = SpecialTokens {
        names: object(spelled.clone()),
        bos: id(BOS),
        eos: id(EOS),
        pad: id(PAD),
        eos_ids: id(EOS).into_iter().collect(),
    };
    let mut config = object(json!({
        "clean_up_tokenization_spaces": false,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }));
    config.extend(object(spelled));
    Ok(Tokenizer::assemble(inner, FILE.into(), config, special, None))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn check(vocab_size: usize, names: &[&str]) -> Result<()> {
    if let Some(i) = (0..names.len()).find(|&i| names[i].is_empty() || names[..i].contains(&names[i])) {
        return Err(Error::invalid(format!("special token {:?} is empty or given twice", names[i])));
    }
    let needed = 256 + names.len();
    if vocab_size < needed {
        return Err(Error::invalid(format!(
            "a vocabulary of {vocab_size} has no room for the 256 bytes and {} special tokens; use at least {needed}",
            names.len()
        )));
    }
    Ok(())
}

fn untrained() -> tokenizers::Result<BpeTokenizer> {
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, false, false);
    let around = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))?
        .try_pair(format!("{BOS} $A {BOS}:1 $B:1"))?
        // Their ids are fixed: the trainer numbers the special tokens first.
        .special_tokens(vec![(BOS, 0)])
        .build()?;
    TokenizerBuilder::default()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
            words.into(),
            bytes.into(),
        ]))))
        .with_post_processor(Some(around))
        .with_decoder(Some(bytes))
        .build()
}
