//! The stages of a run before they are done, with how long each will take.

use amend_learn::Result;
use amend_learn::work::{Work, tokens};
use amend_run::forecast::PlannedStage;

use crate::compare::Arm;
use crate::context::Context;
use crate::recipe::{GivenModel, UnlearnRecipe};
use crate::rehearsal::{StepCost, of_asking};
use crate::stages::Stages;

/// What the stages of a run are made of.
pub(crate) struct Plan<'a> {
    pub(crate) recipe: &'a UnlearnRecipe,
    pub(crate) context: &'a Context<'a>,
    pub(crate) has_gold: bool,
    /// Seconds that the model takes to read a token.
    pub(crate) per_token: f64,
    /// The arms, with what their steps take.
    pub(crate) arms: &'a [(Arm, StepCost)],
}

impl Plan<'_> {
    /// All stages, in the order in which a run comes to them. What may end early is taken to its end.
    pub(crate) fn stages(&self) -> Result<Vec<PlannedStage>> {
        let seeds = self.recipe.seeds();
        let mut all = Vec::new();
        for (i, seed) in seeds.iter().enumerate() {
            let of_seeds = place("seed", i, seeds.len());
            self.seed(&Stages::of(*seed, seeds.len()), &mut |part, name, seconds| {
                let parts = [of_seeds.as_str(), part];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                all.push(PlannedStage { name, part: parts.join(", "), seconds });
            })?;
        }
        Ok(all)
    }

    /// The stages of one seed.
    fn seed(&self, stages: &Stages, plan: &mut dyn FnMut(&str, String, f64)) -> Result<()> {
        let Context { forget, retain, .. } = self.context;
        let seconds = |work: Work| work.seconds(self.per_token);
        if let GivenModel::Scratch(scratch) = self.recipe.model.given()? {
            let learn = |tokens: usize| {
                seconds(Work { trained: (scratch.epochs as usize).saturating_mul(tokens), ..Work::default() })
            };
            plan("", stages.base(), learn(tokens(forget) + tokens(retain)));
            plan("", stages.gold(), learn(tokens(retain)));
        }
        let measured = seconds(self.measuring()?);
        let has_before = !self.recipe.is_audit();
        if has_before {
            plan("", stages.eval("base"), measured);
        }
        if self.has_gold {
            plan("", stages.eval("gold"), measured);
        }
        if has_before {
            plan("", stages.watched(), seconds(Work { scored: tokens(forget), ..Work::default() }));
        }
        let of = |(name, attack): (String, &crate::attack::Attack)| {
            Ok((name, seconds(attack.filler().work(self.context)?)))
        };
        let attacks: Vec<(String, f64)> = self.recipe.unlearn.attacks().map(of).collect::<Result<_>>()?;
        for (i, (arm, cost)) in self.arms.iter().enumerate() {
            let part = place("arm", i, self.arms.len());
            let unlearned = match arm.model {
                Some(_) => seconds(Work { scored: tokens(forget), ..Work::default() }),
                None => {
                    let items = arm.slots.batch_size.min(forget.len());
                    let prepared = seconds(arm.slots.forget.filler().prepares(self.context));
                    prepared
                        + self.recipe.stop.max_steps as f64 * cost.seconds(items)
                        + seconds(self.looking())
                }
            };
            plan(&part, stages.unlearn(&arm.name), unlearned);
            plan(&part, stages.eval(&arm.name), measured);
            for (attack, seconds) in &attacks {
                plan(&part, stages.attack(&arm.name, attack), *seconds);
            }
        }
        for (attack, seconds) in attacks.iter().filter(|_| self.has_gold) {
            plan("", stages.attack("gold", attack), *seconds);
        }
        Ok(())
    }

    /// Looking at the forget set and at the beginning of the retain set while an arm unlearns.
    fn looking(&self) -> Work {
        let Context { forget, retain, .. } = self.context;
        let stop = &self.recipe.stop;
        let looks = stop.max_steps.div_ceil(stop.check_every) as usize;
        let first = &retain[..retain.len().min(crate::arm::RETAIN_LOOK)];
        Work { scored: looks.saturating_mul(2 * tokens(forget) + tokens(first)), ..Work::default() }
    }

    /// Measuring one model on all sets.
    fn measuring(&self) -> Result<Work> {
        let (sets, eval) = (self.context.sets, &self.recipe.eval);
        let mut work = Work::default();
        for set in [
            Some(&sets.forget_eval),
            Some(&sets.retain_eval),
            sets.real_authors.as_ref(),
            sets.world_facts.as_ref(),
        ] {
            let records = set.map_or(&[][..], |set| &set[..set.len().min(eval.limit)]);
            work = work.and(of_asking(self.context, records, eval.max_new_tokens)?);
        }
        Ok(work)
    }
}

/// `arm 2 of 3`; nothing where there is but one.
fn place(what: &str, index: usize, of: usize) -> String {
    if of > 1 { format!("{what} {} of {of}", index + 1) } else { String::new() }
}
