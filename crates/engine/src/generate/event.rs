//! What a session tells: tokens as they come, and how sequences end.

use super::RequestId;
use crate::Error;

/// Something that happened to a request.
#[derive(Debug)]
pub enum Event {
    /// One of its sequences has a new token.
    Token {
        /// The request.
        request: RequestId,
        /// Which of its samples, counted from 0.
        sample: usize,
        /// The token.
        token: Token,
    },
    /// One of its sequences has ended; its last token came just before.
    Finished {
        /// The request.
        request: RequestId,
        /// The whole continuation.
        generated: Generated,
    },
    /// The request could not be gone on with: its taps failed, or its logits are no numbers. It is gone, with all of its
    /// sequences.
    Failed {
        /// The request.
        request: RequestId,
        /// Why.
        error: Error,
    },
}

/// A new token of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its log-probability under the model, before constraint, temperature and filters.
    pub logprob: f32,
    /// The likeliest tokens at its place with their log-probabilities, as many as were asked for.
    pub alternatives: Vec<(u32, f32)>,
    /// Text that is now certain to belong to the continuation. Often empty: text waits while it may be a part
    /// of a character, or the beginning of a stop string. Always empty where the session has no tokenizer.
    pub text: String,
}

/// One generated continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Which sample of its request, counted from 0.
    pub sample: usize,
    /// New ids, the one that ended it included.
    pub ids: Vec<u32>,
    /// Log-probability of each new id under the model, before constraint, temperature and filters.
    pub logprobs: Vec<f32>,
    /// The likeliest tokens at each place with their log-probabilities, as many as were asked for.
    pub alternatives: Vec<Vec<(u32, f32)>>,
    /// The text of the ids: without a stop id, up to a stop string. `None` where the session has no tokenizer.
    pub text: Option<String>,
    /// What ended it.
    pub finish: Finish,
}

/// What ended a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop id.
    Stop,
    /// A stop string.
    StopString,
    /// The limit of new tokens.
    Length,
    /// The model's context.
    Context,
    /// The constraint: the answer is complete, and nothing can follow it.
    Complete,
    /// [`Session::cancel`](super::Session::cancel).
    Cancelled,
}
