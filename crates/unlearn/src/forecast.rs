//! Everything about a run that can be known before it computes: whether it can be done at all, and what it takes.

use std::path::Path;

use amend_engine::Model;
use amend_engine::tensor::{memory_use, release_cached_memory};
use amend_learn::work::per_token;
use amend_learn::{Error, Optimizer, RecordEncoder, Result, SaveType};
use amend_run::forecast::{ArmForecast, Forecast, SetForecast, Written};
use amend_run::machine::{available_memory, memory_limit, resident_memory};
use amend_run::{Progress, Record, Silent, Stop, overlap};

use crate::combine::Combination;
use crate::compare::Arm;
use crate::context::Context;
use crate::data::Sets;
use crate::forget::Forget;
use crate::models::Models;
use crate::plan::Plan;
use crate::recipe::{GivenModel, Slots, UnlearnRecipe};
use crate::rehearsal::{StepCost, rehearse};
use crate::retain::Retain;
use crate::save::Save;
use crate::stages::Stages;

/// Bytes of a number that is computed with.
const FLOAT: u64 = 4;

/// Gradients that a step holds of every weight that may change: at least that of forgetting and the update.
const GRADIENTS: u64 = 2;

/// Numbers that the optimiser keeps of every weight that may change.
const MOMENTS: u64 = 2;

/// Items that an attacker usually goes through at a time.
const ATTACKED: usize = 16;

/// Refuses what cannot be done, and says what the rest will take. Paths of the recipe start at `base`. Takes a few steps
/// of every arm, and a few passes, to time them, but for arms whose stages are `done`; nothing is written.
///
/// # Errors
/// What the run itself would fail with, as far as it can be known: a recipe whose parts do not go together, data or a
/// model that cannot be read or do not fit, weights that the machine's memory would not hold.
pub(crate) fn forecast(
    recipe: &UnlearnRecipe,
    base: &Path,
    progress: &dyn Progress,
    stop: &Stop,
    done: &dyn Fn(&str) -> bool,
) -> Result<Forecast> {
    let arms = recipe.arms();
    recipe.check(&arms)?;
    let seeds = recipe.seeds();
    let seed = seeds.first().copied().unwrap_or(recipe.seed);
    let sets = checked_sets(recipe, base, &seeds)?;
    let mut models = Models::outline(recipe, &sets, base, seed)?;
    models.base.params.interrupt_by(stop.flag());
    for (_, path) in recipe.compare.models() {
        models.check_same_shape(path, recipe, base)?;
    }
    let (reference, tokenizer) = (&models.base, &models.tokenizer);
    let encoder = RecordEncoder::new(tokenizer, recipe.data.template.clone(), reference.spec().context);
    let context = Context::new(reference, tokenizer, &encoder, &sets, &recipe.eval, seed, &Silent)?;
    recipe.stop.check(&context)?;
    arms.iter().filter(|arm| arm.model.is_none()).try_for_each(|arm| fits_in_memory(arm, reference))?;

    let mut activity = progress.begin("check", arms.len() as u64, "arms");
    let mut costs = Vec::new();
    for arm in &arms {
        let is_done = |seed: &u64| done(&Stages::of(*seed, seeds.len()).unlearn(&arm.name));
        let cost = match arm.model {
            None if !seeds.iter().all(is_done) => rehearse(arm, &models, &encoder, &sets, recipe, seed)?,
            _ => StepCost::default(),
        };
        costs.push((arm.clone(), cost));
        activity.advance(1, &arm.name);
    }
    let plan = Plan {
        recipe,
        context: &context,
        has_gold: models.gold.is_some(),
        per_token: per_token(reference, &context.forget)?,
        arms: &costs,
    };
    let trained = costs.iter().filter(|(arm, _)| arm.model.is_none());
    let mut forecast = Forecast {
        sets: lengths(&context)?,
        arms: trained
            .map(|(arm, cost)| of_arm(arm, cost, recipe, &models, &context))
            .collect::<Result<_>>()?,
        stages: plan.stages()?,
        leaves: leaves(recipe, &arms, reference)?,
        ..Forecast::default()
    };
    // Steps of the run itself need blocks of other sizes.
    release_cached_memory();
    if recipe.unlearn.attack.iter().any(|attack| attack.filler().trains(reference) > 0) && !recipe.trains() {
        // An attacker takes the steps of plain training, which no arm has shown.
        let cost = rehearse(&attacker(), &models, &encoder, &sets, recipe, seed)?;
        costs.push((attacker(), cost));
    }
    let attacked = of_attacks(recipe, &costs, &models);
    // The program itself, its tokenizer, the records.
    let beside = resident_memory().map_or(0, |bytes| bytes.saturating_sub(memory_use().live as u64));
    forecast.memory = beside + forecast.arms.iter().map(|arm| arm.memory).fold(attacked, u64::max);
    let trained = recipe.unlearn.attack.iter().map(|attack| attack.filler().trains(reference) as u64).max();
    let changing = forecast.arms.iter().map(|arm| arm.changing as u64).fold(trained.unwrap_or(0), u64::max);
    let remembers = |arm: &Arm| arm.slots.guard.filler().remembers() + arm.slots.combine.filler().remembers();
    let remembered = arms.iter().map(remembers).max().unwrap_or(0);
    // The next one is complete before the last one goes.
    forecast.checkpoints = 2 * FLOAT * (1 + MOMENTS + remembered) * changing;
    forecast.warnings = warnings(&forecast);
    forecast.warnings.extend(idle(recipe, &arms));
    let same = overlap(&sets.forget, &sets.retain).len();
    if same > 0 {
        forecast
            .warnings
            .push(format!("{same} records are in both the forget and the retain set; they pull both ways"));
    }
    activity.finish("every arm has taken a few steps");
    Ok(forecast)
}

/// An arm whose steps are those of an attacker.
fn attacker() -> Arm {
    let slots = Slots {
        forget: Forget::GradientAscent(Default::default()),
        retain: Retain::NoRetain(Default::default()),
        combine: Combination::Sum(Default::default()),
        ..Slots::default()
    };
    Arm::plain("attacker", slots, Optimizer::default())
}

/// The sets of the first seed, after a look at those of all.
fn checked_sets(recipe: &UnlearnRecipe, base: &Path, seeds: &[u64]) -> Result<Sets> {
    let checked = |seed: &u64| -> Result<Sets> {
        let sets = Sets::prepare(recipe, base, *seed, &Silent)?;
        recipe.unlearn.attack.iter().try_for_each(|attack| attack.filler().check(&sets, recipe))?;
        Ok(sets)
    };
    let (first, others) =
        seeds.split_first().ok_or_else(|| Error::conflict_at("seeds", "`seeds`: at least one is needed"))?;
    let sets = checked(first)?;
    // Files are the same for every seed.
    if recipe.data.world.is_some() {
        others.iter().try_for_each(|seed| checked(seed).map(|_| ()))?;
    }
    Ok(sets)
}

/// Refuses an arm whose weights alone, with their gradients and the optimiser's state, are more than the machine has.
fn fits_in_memory(arm: &Arm, model: &Model) -> Result<()> {
    let changing = arm.slots.r#where.filler().size(model).map_err(|e| arm.misplaced(e))? as u64;
    let kept = changing.saturating_mul(1 + GRADIENTS + MOMENTS).saturating_add(model.params.count().0 as u64);
    let needed = FLOAT.saturating_mul(kept);
    match memory_limit() {
        Some(limit) if needed > limit => Err(Error::conflict_at(
            arm.key("where"),
            format!(
                "arm {}: {changing} weights may change, which takes {} of memory with their gradients and the optimiser's \
             state, and this machine has {}; choose fewer in `where`, such as an adapter of a smaller rank",
                arm.name,
                gibibytes(needed),
                gibibytes(limit)
            ),
        )),
        _ => Ok(()),
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The sets as token sequences, uncut.
fn lengths(context: &Context<'_>) -> Result<Vec<SetForecast>> {
    let sets = context.sets;
    let named = [
        ("to forget", Some(&sets.forget)),
        ("to keep", Some(&sets.retain)),
        ("real authors", sets.real_authors.as_ref()),
        ("world facts", sets.world_facts.as_ref()),
    ];
    let length = |record: &Record| Ok(context.encoder.encode(&record.content)?.ids.len());
    let mut all = Vec::new();
    let named = named.into_iter().filter_map(|(name, set)| Some((name, set?)));
    for (name, records) in named.filter(|(_, set)| !set.is_empty()) {
        let lengths = records.iter().map(length).collect::<Result<Vec<_>>>()?;
        all.push(SetForecast::of(name, lengths, context.reference.spec().context));
    }
    Ok(all)
}

fn of_arm(
    arm: &Arm,
    cost: &StepCost,
    recipe: &UnlearnRecipe,
    models: &Models,
    context: &Context<'_>,
) -> Result<ArmForecast> {
    let place = arm.slots.r#where.filler();
    let mut chosen = models.base.clone();
    place.prepare(&mut chosen, context).map_err(|e| arm.misplaced(e))?;
    let items = arm.slots.batch_size.min(context.forget.len());
    // The outline of a gold model that is still to be made shares its tensors with the base model's.
    let shared = match (recipe.model.given()?, &models.gold) {
        (GivenModel::Scratch(_), Some(gold)) => FLOAT * gold.params.count().0 as u64,
        _ => 0,
    };
    let (weights, changing) = chosen.params.count();
    Ok(ArmForecast {
        name: arm.name.clone(),
        weights,
        changing,
        memory: cost.bytes(items) as u64 + shared,
        step_seconds: cost.seconds(items),
    })
}

/// The most memory that an attack takes: beside the base, the gold and the unlearned model, weights that are trained with
/// their gradients and moments, and a pass through them.
fn of_attacks(recipe: &UnlearnRecipe, costs: &[(Arm, StepCost)], models: &Models) -> u64 {
    let weights = models.base.params.count().0 as u64;
    let standing = weights * (2 + u64::from(models.gold.is_some()));
    let pass = costs.iter().map(|(_, cost)| cost.bytes(ATTACKED) - cost.bytes(1)).fold(0.0, f64::max);
    let trains = recipe.unlearn.attack.iter().map(|attack| attack.filler().trains(&models.base) as u64);
    let kept = |trained: u64| FLOAT * (standing + trained * (1 + 1 + MOMENTS)) + pass as u64;
    trains.map(kept).max().unwrap_or(0)
}

/// What stays in the run folder.
fn leaves(recipe: &UnlearnRecipe, arms: &[Arm], model: &Model) -> Result<Vec<Written>> {
    let seeds = recipe.seeds().len() as u64;
    let mut all = Vec::new();
    let mut add = |what: &str, count: usize, bytes: usize| {
        if count > 0 {
            all.push(Written { what: what.to_owned(), count: seeds * count as u64, bytes: bytes as u64 });
        }
    };
    let trained = arms.iter().filter(|arm| arm.model.is_none()).count();
    let made = matches!(recipe.model.given()?, GivenModel::Scratch(_));
    let kept = match recipe.save {
        Save::All => trained,
        Save::Best => trained.min(1),
        Save::None => 0,
    };
    if made && recipe.save == Save::All {
        add("made model", 2, model.written_bytes(None));
    }
    add("unlearned model", kept, model.written_bytes(recipe.save_dtype.map(SaveType::dtype)));
    Ok(all)
}

/// What is allowed and does nothing.
fn idle(recipe: &UnlearnRecipe, arms: &[Arm]) -> Vec<String> {
    let stop = &recipe.stop;
    let trained = || arms.iter().filter(|arm| arm.model.is_none());
    let mut all = Vec::new();
    if trained().next().is_some() && stop.max_steps == 0 {
        all.push("`stop.max_steps` is 0: no arm takes a step, and the model stays what it is".to_owned());
    }
    if trained().next().is_some() && stop.max_steps > 0 && stop.check_every > stop.max_steps {
        all.push(format!(
            "`stop.check_every` is {}, and `max_steps` {}: nobody looks before the last step, so that no arm stops at its aim",
            stop.check_every, stop.max_steps
        ));
    }
    all.extend(
        trained()
            .filter(|arm| arm.optimizer.lr == 0.0)
            .map(|arm| format!("the learning rate of arm {} is 0: its weights stay what they are", arm.name)),
    );
    all
}

fn warnings(forecast: &Forecast) -> Vec<String> {
    let mut all = Vec::new();
    for set in forecast.sets.iter().filter(|set| set.cut > 0) {
        all.push(format!(
            "{} of {} records {} are longer than what the model reads at once and will be cut",
            set.cut, set.records, set.name
        ));
    }
    // What this process has already is part of what the run takes.
    let free = available_memory().map(|free| free + resident_memory().unwrap_or(0));
    if let Some(free) = free.filter(|free| *free < forecast.memory) {
        all.push(format!(
            "the run takes about {} of memory, and {} are free; a smaller `batch_size`, `where = \"lora\"` or \
             `engine.activation_checkpointing` take less",
            gibibytes(forecast.memory),
            gibibytes(free)
        ));
    }
    all
}
