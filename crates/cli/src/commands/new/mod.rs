//! `amend new`: a commented recipe to start from, filled in as far as one can say.

use std::path::{Path, PathBuf};

use amend_learn::area::Area;
use amend_run::recipe::{Starter, fill, keys, without};
use amend_run::records::{Filter, ReadOptions, Rows};
use amend_run::{Dataset, RecipeSource, nearest, shell};
use clap::Args;

use crate::app::Exit;
use crate::area::{self, absolute};
use crate::completing;
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::open;

mod entity;

const EXAMPLES: &str = "\
Examples:
  amend new unlearn > recipe.toml
  amend new unlearn --template lora --model DIR --forget facts.jsonl \\
      --where 'author = \"Ann Lee\"' --out forget.toml
  amend new unlearn --template lora --model DIR --entity 'Ann Lee' \\
      --neighbour 'Joan Ray' --neighbour 'Mary Fox' --out forget.toml
  amend new edit --model DIR --edits edits.jsonl --text text.txt --out edit.toml

With --where, those records of the file are forgotten and the others kept, so
that no --retain is needed. With --entity the model is asked: what it says
about the name is forgotten, what it says about the neighbours is kept. Next
come amend check and amend run.";

/// Print a commented recipe, or write one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NewArgs {
    /// The area: unlearn or edit
    #[arg(value_name = "METHOD", add = completing::areas())]
    area: String,
    /// Which recipe to start from: plain, lora, compare, tofu or attack; of edit: plain or counterfact
    #[arg(long, value_name = "NAME", default_value = "plain", add = completing::templates())]
    template: String,
    /// The model: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR", add = completing::models())]
    model: Option<PathBuf>,
    /// A model that never saw what is to be forgotten
    #[arg(long, value_name = "DIR", add = completing::models())]
    gold: Option<PathBuf>,
    /// Records to be forgotten
    #[arg(long, value_name = "FILE")]
    forget: Option<PathBuf>,
    /// Which records of the forget file are meant, such as 'author = "Ann Lee"'
    #[arg(long, value_name = "CHOICE", requires = "forget")]
    r#where: Option<String>,
    /// Records to be kept
    #[arg(long, value_name = "FILE")]
    retain: Option<PathBuf>,
    /// Whom or what to forget, by name: the model's own answers become the records
    #[arg(long, value_name = "NAME", conflicts_with_all = ["forget", "retain"], requires = "model", requires = "out")]
    entity: Option<String>,
    /// Whom or what to keep beside it, by name; several times for several. Without it the model is asked for some
    #[arg(long, value_name = "NAME", requires = "entity")]
    neighbour: Vec<String>,
    /// Facts to be rewritten
    #[arg(long, value_name = "FILE")]
    edits: Option<PathBuf>,
    /// Any text, of which an editor takes statistics
    #[arg(long, value_name = "FILE", requires = "edits")]
    text: Option<PathBuf>,
    /// Write the recipe to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn execute(mut args: NewArgs, context: &mut Context) -> Result<Exit, Error> {
    let area = area::find(&args.area)?;
    let starter = starter(area, &args.template)?;
    check_options(area, &args)?;
    let made = entity::make(&args, context)?;
    if let Some(made) = &made {
        (args.forget, args.retain) = (Some(made.forget.clone()), Some(made.retain.clone()));
    }
    let text = filled(starter, &args)?;
    let folder = args.out.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let open = to_fill_in(text.clone(), folder)?;
    match &args.out {
        Some(out) => {
            write_new(out, &text)?;
            if context.json {
                let mut told = serde_json::json!({ "method": area.name, "file": out, "to_fill_in": open });
                if let Some(made) = made {
                    told["entity"] = made.told;
                }
                context.out.json_line(&told)?;
            } else {
                let fill_in = match open.as_slice() {
                    [] => String::new(),
                    open => format!("fill in {}, then ", open.join(", ")),
                };
                context.console.note(&format!(
                    "wrote {}; next: {fill_in}amend check {}",
                    out.display(),
                    shell::path(out)
                ));
            }
        }
        None if context.json => {
            let told = serde_json::json!({ "method": area.name, "recipe": text, "to_fill_in": open });
            context.out.json_line(&told)?;
        }
        None => context.out.text(&text)?,
    }
    Ok(Exit::Done)
}

fn starter(area: &Area, name: &str) -> Result<&'static Starter, Error> {
    let found = area.starters.iter().find(|starter| starter.name == name);
    found.ok_or_else(|| {
        let names = || area.starters.iter().map(|starter| starter.name);
        let near = nearest(name, names()).map(|near| format!("did you mean {near}? "));
        let all: Vec<String> =
            area.starters.iter().map(|starter| format!("{} ({})", starter.name, starter.summary)).collect();
        let hint = format!("{}There are: {}", near.unwrap_or_default(), all.join(", "));
        Error::told(format!("there is no template called {name}"), hint).about(Topic::Name)
    })
}

/// The starter with what was given on the command line, after a look at it.
fn filled(starter: &Starter, args: &NewArgs) -> Result<String, Error> {
    let mut values: Vec<(&str, toml_edit::Value)> = Vec::new();
    let recipe_folder = args.out.as_deref().and_then(Path::parent);
    let path = |path: &PathBuf| path_for(path, recipe_folder);
    for (key, model) in [("model.path", &args.model), ("model.gold", &args.gold)] {
        if let Some(model) = model {
            open::check_model(model)
                .map_err(|e| e.within(if key == "model.gold" { "--gold" } else { "--model" }))?;
            values.push((key, path(model).into()));
        }
    }
    if let Some(forget) = &args.forget {
        let needs_rest = args.retain.is_none() && starter.name != "attack";
        let choice = args.r#where.as_deref().map(|choice| (choice, needs_rest));
        let value = forget_value(forget, choice, recipe_folder)?;
        values.push(("data.forget", value));
    }
    if let Some(retain) = &args.retain {
        let read = Dataset::read(&[retain]).map_err(amend_learn::Error::from);
        read.map_err(|e| Error::from(e).within("--retain"))?;
        values.push(("data.retain", path(retain).into()));
    }
    if let Some(edits) = &args.edits {
        let read = Rows::read(&[edits], &ReadOptions::default()).map_err(amend_learn::Error::from);
        read.map_err(|e| Error::from(e).within("--edits"))?;
        values.push(("data.edits", path(edits).into()));
    }
    if let Some(text) = &args.text {
        let read = Dataset::read(&[text]).map_err(amend_learn::Error::from);
        read.map_err(|e| Error::from(e).within("--text"))?;
        values.push(("data.text", path(text).into()));
    }
    if let (Some(model), "attack") = (&args.model, starter.name) {
        // The model in question is the only one that is known; the one from before can be named later.
        values.push(("compare.0.model", path(model).into()));
        if args.gold.is_none() {
            // There is nothing that it could be asked to withstand by.
            values.push(("unlearn.verdict", toml_edit::Array::new().into()));
        }
    }
    let text = fill(starter.text, &values).map_err(Error::plain)?;
    if args.r#where.is_some() && args.retain.is_none() {
        // The rest of the forget file is kept; a name that stands there for nothing would be read.
        return without(&text, "data.retain").map_err(Error::plain);
    }
    Ok(text)
}

/// Refuses options that stand for keys which recipes of this area have not.
fn check_options(area: &Area, args: &NewArgs) -> Result<(), Error> {
    let known = keys(&(area.schema)());
    let given = [
        ("--gold", "model.gold", args.gold.is_some()),
        ("--forget", "data.forget", args.forget.is_some()),
        ("--retain", "data.retain", args.retain.is_some()),
        ("--entity", "data.forget", args.entity.is_some()),
        ("--edits", "data.edits", args.edits.is_some()),
        ("--text", "data.text", args.text.is_some()),
    ];
    let foreign = |(_, key, given): &&(&str, &str, bool)| *given && known.iter().all(|own| own.path != *key);
    match given.iter().find(foreign) {
        None => Ok(()),
        Some((option, key, _)) => {
            Err(Error::told(format!("{option}: recipes of {} have no `{key}`", area.name), "leave it out"))
        }
    }
}

/// The keys of a recipe in `folder` that name a model or a file that there is not: the template can only make them up.
fn to_fill_in(text: String, folder: &Path) -> Result<Vec<String>, Error> {
    let plan = area::read(RecipeSource { path: folder.join("recipe.toml"), text }, &[])?;
    let missing = plan.models.into_iter().chain(plan.data).filter(|input| !input.resolve(folder).exists());
    Ok(missing.map(|input| input.key).collect())
}

/// The records to be forgotten, as a recipe in `folder` names them, after a look at them. With a choice among them goes
/// whether it has to leave some.
pub(super) fn forget_value(
    file: &Path,
    choice: Option<(&str, bool)>,
    folder: Option<&Path>,
) -> Result<toml_edit::Value, Error> {
    let read = Dataset::read(&[file]).map_err(|e| Error::from(amend_learn::Error::from(e)));
    let records = read.map_err(|e| e.within("--forget"))?.records;
    let path = toml_edit::Value::from(path_for(file, folder));
    let Some((choice, needs_rest)) = choice else { return Ok(path) };
    let filter: Filter = choice.parse().map_err(|e| Error::plain(format!("--where: {e}")))?;
    let split = filter.split(records);
    let [_, others] = split.map_err(|e| Error::plain(format!("--where: {}: {e}", file.display())))?;
    if others.is_empty() && needs_rest {
        return Err(Error::told(
            format!("--where: every record of {} is meant, so that nothing is left to keep", file.display()),
            "choose fewer, or name a file of records to be kept with --retain",
        ));
    }
    let mut table = toml_edit::InlineTable::new();
    table.insert("path", path);
    table.insert("where", choice.into());
    Ok(table.into())
}

/// A path as a recipe in `folder` names it: as it was given, where that means the same there.
pub(super) fn path_for(path: &Path, folder: Option<&Path>) -> String {
    let here = folder.is_none_or(|folder| absolute(folder) == absolute(Path::new("")));
    let named = if here || path.is_absolute() { path.to_path_buf() } else { absolute(path) };
    named.display().to_string()
}

fn write_new(out: &Path, text: &str) -> Result<(), Error> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::told(format!("{} exists", out.display()), "choose another --out").about(Topic::Output)
        }
        _ => Error::io(out, "cannot write", e),
    };
    let mut file = std::fs::File::create_new(out).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)
}
