//! What ended a generated text, in words.

use amend_engine::generate::Finish;

/// The field `finish` of JSON output.
pub(crate) fn name(finish: Finish) -> &'static str {
    match finish {
        // A stop string is a stop like any other to the user.
        Finish::Stop | Finish::StopString | Finish::Complete => "stop",
        Finish::Length => "length",
        Finish::Context => "context",
        Finish::Cancelled => "cancelled",
    }
}

/// Why a text is shorter than the model would have had it, and what to do about it. Nothing where the model, or the
/// user, ended it.
pub(crate) fn short_of_end(finish: Finish, max_new_tokens: usize, context: usize) -> Option<String> {
    match finish {
        Finish::Length => Some(format!("after {max_new_tokens} tokens; --max-new-tokens N allows more")),
        Finish::Context => Some(format!("the model's context of {context} tokens is full")),
        Finish::Stop | Finish::StopString | Finish::Complete | Finish::Cancelled => None,
    }
}
