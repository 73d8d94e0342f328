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

/// Where a text was cut, as the end of a sentence that says it was, with what to do about it. Nothing where the model, or
/// the user, ended it.
pub(crate) fn cut(finish: Finish, max_new_tokens: usize, context: usize) -> Option<String> {
    match finish {
        Finish::Length => Some(format!("after {max_new_tokens} tokens; --max-new-tokens N allows more")),
        Finish::Context => Some(format!("at the end of the model's context of {context} tokens")),
        Finish::Stop | Finish::StopString | Finish::Complete | Finish::Cancelled => None,
    }
}
