//! Flags that say what an answer must look like, shared by `generate` and `chat`.

use std::path::Path;
use std::sync::Arc;

use amend_engine::generate::{Constraint, Grammar};
use amend_engine::tokenizer::TokenBytes;
use clap::Args;

use crate::error::Error;
use crate::open::Opened;

/// What an answer must look like. It always does, whatever the sampling and the number of tokens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Form of the answer (one of these)")]
#[group(multiple = false)]
pub(crate) struct ConstraintArgs {
    /// JSON that is valid under this JSON schema, given as a file or in place
    #[arg(long, value_name = "FILE|SCHEMA")]
    json_schema: Option<String>,
    /// Any JSON object
    #[arg(long)]
    json_object: bool,
    /// Text that matches this regular expression as a whole
    #[arg(long, value_name = "EXPRESSION", allow_hyphen_values = true)]
    regex: Option<String>,
    /// This text; given several times, one of them
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    choice: Vec<String>,
}

impl ConstraintArgs {
    /// The constraint for the opened model, if one was asked for.
    pub(crate) fn compile(&self, opened: &Opened) -> Result<Option<Constraint>, Error> {
        let (flag, grammar) = if let Some(schema) = &self.json_schema {
            ("--json-schema", Grammar::json_schema(&read_schema(schema)?))
        } else if let Some(pattern) = &self.regex {
            ("--regex", Grammar::regex(pattern))
        } else if !self.choice.is_empty() {
            ("--choice", Grammar::choices(&self.choice))
        } else if self.json_object {
            ("--json-object", Grammar::json_object())
        } else {
            return Ok(None);
        };
        let tokenizer = opened.tokenizer()?;
        let constraint = grammar.and_then(|grammar| {
            let tokens = Arc::new(TokenBytes::new(tokenizer, &opened.stop_ids())?);
            Constraint::new(&grammar, &tokens)
        });
        constraint.map(Some).map_err(|e| Error::from(e).within(flag))
    }
}

/// A schema that is a file's content, or given in place.
fn read_schema(given: &str) -> Result<serde_json::Value, Error> {
    if given.trim_start().starts_with('{') {
        return serde_json::from_str(given).map_err(|e| {
            Error::told(
                format!("--json-schema: malformed JSON: {e}"),
                "give the schema as JSON in quotes, or the name of a file that holds it",
            )
        });
    }
    let path = Path::new(given);
    let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::plain(format!("{given}: malformed JSON: {e}")))
}
