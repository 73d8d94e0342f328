//! What a model is asked, and what it answers.

use amend_engine::Scored;
use amend_learn::Result;
use amend_run::Content;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// How likely the answer in these texts is, its end included: the completion, the assistant's messages, the
    /// whole of a document. What does not fit into the model's context is cut off at the end.
    Likelihood(Content),
    /// How likely the answer in these texts is as the beginning of what follows: as `Likelihood`, but for the end, which is
    /// left open. What stands before a text, such as a token for its beginning, stands before it as when the model writes.
    Beginning(Content),
    /// How likely `continuation` is after `context`, as text and without an end. What does not fit into the
    /// model's context is cut off at the beginning. As lm-evaluation-harness counts it: nothing stands before the
    /// context, white space at its end belongs to the continuation, and an empty one is the beginning of text.
    Continuation {
        /// What is given.
        context: String,
        /// What is scored.
        continuation: String,
    },
    /// How likely a text of any length is. Its first token is conditioned on the beginning of text; where it is
    /// longer than the model's context, every token counts once, in windows that do not overlap but for the
    /// last, which reaches back as far as the context does. Nothing is added at the end.
    Rolling(String),
    /// What the model writes.
    Generation(Generation),
}

/// A request for text, decoded greedily.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// What is asked. The right answer in it is not shown, but where prompt and answer are one text, the token
    /// across their border is left to the model.
    pub content: Content,
    /// Most new tokens; with 0 nothing is written.
    pub max_new_tokens: usize,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Likelihood`], [`Request::Beginning`], [`Request::Continuation`] and [`Request::Rolling`].
    Likelihood(Likelihood),
    /// To [`Request::Generation`].
    Written(Written),
}

/// What a model says of the tokens that were scored, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Log-probability of each, in nats.
    #[serde(serialize_with = "write_exactly", deserialize_with = "read_exactly")]
    pub logprobs: Vec<f32>,
    /// Whether each was the model's first choice.
    pub greedy: Vec<bool>,
}

/// What a model wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// What was asked, in the words in which it was asked.
    pub prompt: String,
    /// The answer, without white space around it; empty where the model says nothing. `None` where it could say
    /// nothing: no token was asked for, a document has no question, or the prompt fills the context.
    pub text: Option<String>,
}

/// Who answers requests.
pub trait Answerer {
    /// The answers to requests, in their order. They do not depend on what else is asked at a time.
    ///
    /// # Errors
    /// A request that cannot be put to the model, or a model that fails.
    fn answer(&self, requests: &[Request]) -> Result<Vec<Answer>>;
}

impl Likelihood {
    /// Log-probability of the whole, in nats: the sum from the first token to the last.
    pub fn logprob(&self) -> f64 {
        self.logprobs.iter().copied().map(f64::from).sum()
    }
}

impl From<Scored> for Likelihood {
    fn from(Scored { logprobs, greedy }: Scored) -> Self {
        Likelihood { logprobs, greedy }
    }
}

impl Answer {
    /// The likelihood, where it is one.
    pub fn likelihood(&self) -> Option<&Likelihood> {
        match self {
            Answer::Likelihood(likelihood) => Some(likelihood),
            Answer::Written(_) => None,
        }
    }

    /// What was written, where something was.
    pub fn written(&self) -> Option<&Written> {
        match self {
            Answer::Written(written) => Some(written),
            Answer::Likelihood(_) => None,
        }
    }
}

/// A log-probability in JSON, which has no infinities: those, and NaN, are words.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Exact {
    Number(f32),
    Word(String),
}

fn write_exactly<S: Serializer>(logprobs: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(logprobs.iter().map(|&logprob| match logprob.is_finite() {
        true => Exact::Number(logprob),
        false => Exact::Word(logprob.to_string()),
    }))
}

fn read_exactly<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let number = |exact| match exact {
        Exact::Number(logprob) => Ok(logprob),
        Exact::Word(word) => word.parse().map_err(serde::de::Error::custom),
    };
    Vec::<Exact>::deserialize(deserializer)?.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn again(logprobs: &[f32]) -> Vec<u32> {
        let likelihood = Likelihood { logprobs: logprobs.to_vec(), greedy: vec![true; logprobs.len()] };
        let text = serde_json::to_string(&Answer::Likelihood(likelihood)).unwrap();
        let read: Answer = serde_json::from_str(&text).unwrap();
        read.likelihood().unwrap().logprobs.iter().map(|l| l.to_bits()).collect()
    }

    #[test]
    fn what_is_not_finite_is_written_and_read_again() {
        let values = [f32::NEG_INFINITY, f32::INFINITY, -0.0, -1e-38];
        assert_eq!(again(&values), values.map(f32::to_bits));
        assert!(f32::from_bits(again(&[f32::NAN])[0]).is_nan());
    }

    proptest! {
        #[test]
        fn answers_are_read_as_they_were_written(logprobs in prop::collection::vec(-200f32..0.0, 0..20)) {
            prop_assert_eq!(again(&logprobs), logprobs.iter().map(|l| l.to_bits()).collect::<Vec<_>>());
        }
    }
}
