//! A recipe: one TOML file that says everything about a run.
//!
//! Loading goes through four steps, each in its own file: the text becomes a `tree` that remembers where every
//! key stood; `--set` `overrides` edit that tree; the tree is `check`ed against the recipe type's own JSON
//! schema, so that errors can point at a line and name the nearest valid key; and the tree is
//! `deserialize`d. Nothing is guessed: an unknown key is always an error.

mod check;
mod deserialize;
mod differences;
mod error;
mod overrides;
mod path;
mod places;
mod seeds;
mod shape;
mod starter;
mod tree;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use differences::{Difference, differences};
pub(crate) use differences::{leaves, unlike};
pub use error::{Fault, Problem, RecipeError};
pub use path::RecipePath;
pub use places::{Key, keys, places_of};
pub use seeds::Seeds;
pub use starter::{Starter, fill, without};
use tree::Node;

/// The text of a recipe and the file it came from.
#[derive(Clone, Debug)]
pub struct RecipeSource {
    /// Where the text came from; shown in errors, never read again.
    pub path: PathBuf,
    /// The TOML text.
    pub text: String,
}

impl RecipeSource {
    /// Reads a recipe file.
    ///
    /// # Errors
    /// Where the file cannot be read or is not UTF-8 (the error points at the first bad byte).
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        let refuse = |text: &str, problem| RecipeError::new(path, text, vec![problem]);
        let bytes = std::fs::read(path).map_err(|e| {
            let mut problem = Problem::new(Fault::Unreadable, None, format!("cannot read the recipe: {e}"));
            if path.is_dir() {
                let inside = path.join("recipe.toml");
                problem = problem.hint(format!("it is a folder; did you mean {}?", inside.display()));
            }
            refuse("", problem)
        })?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path: path.to_path_buf(), text }),
            Err(e) => {
                let start = e.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(e.as_bytes()).into_owned();
                Err(refuse(
                    &text,
                    Problem::new(Fault::Syntax, Some(start..start), "the recipe is not UTF-8 text".into()),
                ))
            }
        }
    }

    /// The folder that relative paths in the recipe start from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// A recipe that was read, and the same recipe with nothing left implicit.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The recipe.
    pub recipe: T,
    /// TOML with every default and every `--set` written out. Loading it gives an equal recipe.
    pub resolved: String,
}

/// Reads a recipe of type `T`, with `--set a.b=value` overrides applied.
///
/// The value of an override is read as TOML, or taken as a string where it is not valid TOML. An override may
/// reach into a slot written as a plain name: `--set unlearn.forget.beta=0.2` after `forget = "npo"`.
///
/// Serde's `alias` is not supported: a schema does not show aliases, so they count as unknown keys.
///
/// # Errors
/// Malformed TOML, unknown keys (anywhere, also where `T` itself would ignore them), unknown names of methods,
/// missing keys, values of the wrong type or out of range. All problems the schema can see are reported at once.
pub fn load<T>(source: RecipeSource, sets: &[String]) -> Result<Loaded<T>, RecipeError>
where
    T: DeserializeOwned + JsonSchema + Serialize,
{
    let refuse = |problems| RecipeError::new(&source.path, &source.text, problems);
    let schema = schema_of::<T>();
    let recipe: T = read_text(&source.text, sets, &schema).map_err(refuse)?;
    let resolved =
        written_out(&recipe).map_err(|message| refuse(vec![Problem::new(Fault::Invalid, None, message)]))?;
    // A resumed run reads the resolved text. If it meant anything else than what runs now, the two halves of
    // the run would silently differ; so the promise is checked on every load, which costs microseconds.
    let again = read_text::<T>(&resolved, &[], &schema).map(|again| toml::to_string_pretty(&again));
    match again {
        Ok(Ok(again)) if again == resolved => Ok(Loaded { recipe, resolved }),
        _ => Err(refuse(vec![Problem::new(
            Fault::Invalid,
            None,
            format!("the recipe does not survive being written out and read again:\n{resolved}"),
        )])),
    }
}

/// A recipe as TOML, with nothing left implicit.
///
/// # Errors
/// Where it is no TOML, in one sentence.
pub fn written_out(recipe: &impl Serialize) -> Result<String, String> {
    toml::to_string_pretty(recipe)
        .map_err(|e| format!("the recipe cannot be written out with its defaults: {e}"))
}

/// The JSON schema of a recipe type, as `amend schema` prints it and as [`load`] checks against it.
pub fn schema_of<T: JsonSchema>() -> serde_json::Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    crate::method::shorten_defaults(&mut schema);
    schema
}

/// Checks options that no recipe was read for, those that are set while a run goes on for example, as [`load`] would
/// check them in a recipe under the dotted key `name`.
///
/// # Errors
/// Names every key that the schema of `T` has something against, with its value and what it may be.
pub fn check_options<T: JsonSchema + Serialize>(name: &str, options: &T) -> Result<(), String> {
    let text = toml::to_string(options).map_err(|e| format!("`{name}` cannot be written out: {e}"))?;
    let root = tree::parse(&text).map_err(|problem| problem.message)?;
    let findings = check::check(&root, &schema_of::<T>(), name);
    let messages: Vec<String> = findings.into_iter().map(|finding| finding.message).collect();
    if messages.is_empty() { Ok(()) } else { Err(messages.join("; ")) }
}

fn read_text<T: DeserializeOwned>(
    text: &str,
    sets: &[String],
    schema: &serde_json::Value,
) -> Result<T, Vec<Problem>> {
    let mut root: Node = tree::parse(text).map_err(|problem| vec![problem])?;
    for (index, set) in sets.iter().enumerate() {
        overrides::apply(&mut root, index, set, schema).map_err(|problem| vec![problem])?;
    }
    let findings = check::check(&root, schema, "");
    if !findings.is_empty() {
        return Err(findings.into_iter().map(|finding| finding.into_problem(sets)).collect());
    }
    deserialize::from_node(&root).map_err(|finding| vec![finding.into_problem(sets)])
}

#[cfg(test)]
mod tests;
