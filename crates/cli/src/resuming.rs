//! Going on with a run that was interrupted, also with some of its recipe changed.

use std::path::Path;
use std::time::Duration;

use amend_learn::area::Plan;
use amend_run::{RecipeSource, RunFolder, Status};

use crate::app::Exit;
use crate::area::{self, Inputs};
use crate::context::Context;
use crate::error::{Error, Topic};
use crate::listening::TensorBoardArgs;
use crate::running::{carry_out, this_program};
use crate::{events, interrupt};

/// Goes on with a run that was interrupted, with some of its recipe changed.
pub(crate) fn resume(
    dir: &Path,
    sets: &[String],
    checkpoint_every: Duration,
    board: &TensorBoardArgs,
    context: &mut Context,
) -> Result<Exit, Error> {
    // From here on a signal leaves a run that can be resumed.
    let stop = interrupt::stop_asked_for(&context.console, dir)?;
    let mut folder = RunFolder::open(dir, this_program())?;
    if let Err(e) = revise(&mut folder, sets, context) {
        // Nothing was changed: the run is as it was.
        folder.finish(Status::Interrupted)?;
        return Err(e);
    }
    events::run(&context.console, &folder);
    match prepare(&folder, context) {
        Ok(plan) => {
            let base = folder.state().info.recipe_folder.clone();
            carry_out(plan, &base, folder, checkpoint_every, (board, stop), context)
        }
        // It can be gone on with once the old content is back.
        Err(e) if e.code() == Topic::Changed.code() => {
            folder.finish(Status::Interrupted)?;
            Err(e)
        }
        Err(e) => {
            folder.fail(&e);
            Err(e)
        }
    }
}

/// Changes the recipe of an interrupted run, where that changes nothing that was done.
fn revise(folder: &mut RunFolder, sets: &[String], context: &Context) -> Result<(), Error> {
    if sets.is_empty() {
        return Ok(());
    }
    let source = RecipeSource { path: folder.path().join("recipe.toml"), text: folder.recipe()? };
    let plan = area::read(source.clone(), sets)?;
    may_change(&plan, &source, sets, folder)?;
    // What the changed recipe cannot do is found out before anything that was done is cleared away.
    let base = folder.state().info.recipe_folder.clone();
    let Inputs { models, data, records } = area::inputs(&plan, &base)?;
    plan.forecast(&base, context.progress.as_ref())?;
    let anew = (plan.revise)(source, folder)?;
    folder.revise(&plan.resolved, sets, [models, data], records)?;
    if !anew.is_empty() {
        context.console.note(&format!("to be done with the changed recipe: {}", anew.join(", ")));
    }
    Ok(())
}

/// Refuses a change of what was done, and names the setting that is one where it is one by itself.
fn may_change(plan: &Plan, source: &RecipeSource, sets: &[String], folder: &RunFolder) -> Result<(), Error> {
    let Err(refused) = (plan.may_revise)(source.clone(), folder) else { return Ok(()) };
    let alone = |set: &String| {
        let plan = area::read(source.clone(), std::slice::from_ref(set)).ok()?;
        (plan.may_revise)(source.clone(), folder).err().map(|refused| (refused, set.clone()))
    };
    let (why, which) = sets.iter().find_map(alone).unwrap_or_else(|| (refused, sets.join(" --set ")));
    Err(Error::from(why).within(format!("--set {which}")))
}

/// What is left to do in a folder, whose recipe is to read what it read when the run began.
fn prepare(folder: &RunFolder, context: &Context) -> Result<Plan, Error> {
    let dir = folder.path();
    let programs: Vec<String> = folder.state().programs().iter().map(ToString::to_string).collect();
    if programs.len() > 1 {
        let mixed = format!(
            "several versions of amend have worked on this run: {}; where they compute differently, its figures \
             are those of none of them",
            programs.join(", ")
        );
        folder.log(&format!("warning: {mixed}"))?;
        context.console.warn(&mixed);
    }
    let source = RecipeSource { path: dir.join("recipe.toml"), text: folder.recipe()? };
    let info = &folder.state().info;
    let plan = area::read(source, &[])?;
    let Inputs { models: model, data, .. } = area::inputs(&plan, &info.recipe_folder)?;
    let changed = model.iter().chain(&data).find(|(path, hash)| {
        info.model.get(*path).or_else(|| info.data.get(*path)).is_some_and(|before| before != *hash)
    });
    match changed {
        None => Ok(plan),
        Some((path, _)) => Err(Error::told(
            format!("{path} has changed since the run in {} began", dir.display()),
            "put the old content back, or start a new run",
        )
        .about(Topic::Changed)),
    }
}
