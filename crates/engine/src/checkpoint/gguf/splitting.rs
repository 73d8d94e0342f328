//! How byte-level tokenizers split a text before merging, by the names of `tokenizer.ggml.pre`.
//!
//! The names, the expressions behind them and what else they imply are those of llama.cpp's
//! `src/llama-vocab.cpp`. Every way is given as the `pre_tokenizer` of a `tokenizer.json` that does
//! the same, so that reading and recognising one are the same table.

use serde_json::{Value as Json, json};

/// One way of splitting, and what its name implies besides.
#[derive(Debug)]
pub(super) struct Splitting {
    /// The names that stand for it; the first is the one to write.
    pub(super) names: &'static [&'static str],
    steps: &'static [Step],
    /// Whether a piece that is a token is one, whatever its merges say.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with a BOS token unless the file says otherwise.
    pub(super) adds_bos: bool,
    /// Whether the models' own tokenizers bring texts into normal form C first.
    pub(super) composes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Pieces of their own for what the expression matches.
    Isolate(&'static str),
    /// A piece of its own for every digit.
    Digits,
    /// GPT-2's expression, then bytes as characters.
    Gpt2,
    /// Bytes as characters.
    Bytes,
}

use Step::{Bytes, Digits, Gpt2, Isolate};

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const PLAIN: Splitting =
    Splitting { names: &[], steps: &[], ignore_merges: false, adds_bos: false, composes: false };

const KNOWN: &[Splitting] = &[
    Splitting {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"],
        steps: &[Gpt2],
        ..PLAIN
    },
    Splitting {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        steps: &[Digits, Gpt2],
        ..PLAIN
    },
    Splitting {
        names: &["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"],
        steps: &[Isolate(QWEN2), Bytes],
        composes: true,
        ..PLAIN
    },
    Splitting {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3"],
        steps: &[Isolate(LLAMA3), Bytes],
        ignore_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    Splitting { names: &["smaug-bpe", "dbrx"], steps: &[Isolate(LLAMA3), Bytes], ..PLAIN },
    Splitting {
        names: &["default"],
        steps: &[
            Isolate(r"[\p{P}\$\+<=>\^~\|]+"),
            Isolate(GPT2),
            Isolate(r"\p{N}+"),
            Isolate(r"[0-9][0-9][0-9]"),
            Bytes,
        ],
        ..PLAIN
    },
];

impl Splitting {
    /// The way that a file names. A file without a name is from before there were names.
    pub(super) fn named(name: Option<&str>) -> Result<&'static Self, String> {
        let wanted = name.unwrap_or("default");
        KNOWN.iter().find(|known| known.names.contains(&wanted)).ok_or_else(|| {
            let names: Vec<_> = KNOWN.iter().flat_map(|known| known.names).copied().collect();
            format!(
                "tokenizer.ggml.pre is {wanted:?}, a way of splitting texts that is not known; known are {}",
                names.join(", ")
            )
        })
    }

    /// The way that a `tokenizer.json` describes.
    pub(super) fn recognise(pre_tokenizer: &Json, ignore_merges: bool) -> Option<&'static Self> {
        let found = steps(pre_tokenizer)?;
        let same = |known: &&Splitting| {
            known.ignore_merges == ignore_merges
                && known.steps.len() == found.len()
                && known.steps.iter().zip(&found).all(|(step, found)| step.to_json() == *found)
        };
        KNOWN.iter().find(same)
    }

    /// The `pre_tokenizer` of a `tokenizer.json` that splits in this way.
    pub(super) fn to_json(&self) -> Json {
        match self.steps {
            [only] => only.to_json(),
            several => json!({
                "type": "Sequence",
                "pretokenizers": several.iter().map(|step| step.to_json()).collect::<Vec<_>>(),
            }),
        }
    }
}

impl Step {
    fn to_json(self) -> Json {
        let bytes = |use_regex: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex,
            })
        };
        match self {
            Isolate(expression) => json!({
                "type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false,
            }),
            Digits => json!({"type": "Digits", "individual_digits": true}),
            Gpt2 => bytes(true),
            Bytes => bytes(false),
        }
    }
}

/// The steps of a `pre_tokenizer`, sequences unfolded and defaults filled in, so that equal ways are
/// equal values.
fn steps(pre_tokenizer: &Json) -> Option<Vec<Json>> {
    if let Some(parts) = pre_tokenizer.get("pretokenizers").and_then(Json::as_array) {
        let parts: Option<Vec<Vec<Json>>> = parts.iter().map(steps).collect();
        return parts.map(|parts| parts.concat());
    }
    let mut step = pre_tokenizer.as_object()?.clone();
    match step.get("type")?.as_str()? {
        "ByteLevel" => {
            // Where offsets begin does not change which tokens come out.
            step.insert("trim_offsets".into(), false.into());
            step.entry("use_regex").or_insert(true.into());
        }
        "Split" => drop(step.entry("invert").or_insert(false.into())),
        _ => {}
    }
    Some(vec![Json::Object(step)])
}
