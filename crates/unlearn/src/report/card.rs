//! What stands beside an unlearned model, for those who find it without its run.

use std::path::Path;

use amend_learn::Result;
use amend_run::report::{Card, Cell, Section};
use amend_run::{RecipeSource, Report, load};

use super::{figures, methods, summary};
use crate::arm::adapter_dir;
use crate::outcome::Outcome;
use crate::recipe::{GivenModel, UnlearnRecipe};

/// The cards of the models that a run in `dir` keeps, one for each folder.
///
/// # Errors
/// Where the run's recipe cannot be read.
pub(crate) fn cards(outcome: &Outcome, dir: &Path) -> Result<Vec<Card>> {
    let path = dir.join("recipe.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|e| amend_engine::Error::io(&path, "cannot read", e))?;
    let recipe = load::<UnlearnRecipe>(RecipeSource { path, text }, &[]).map_err(Box::new)?.recipe;
    let (base, is_gguf) = match recipe.model.given()? {
        GivenModel::Path(path) => {
            // The name alone: where it lies on this machine leads nobody anywhere.
            let name =
                Path::new(path.as_str()).file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, path.as_str().ends_with(".gguf"))
        }
        GivenModel::Scratch(_) => ("a small model made on the spot".to_owned(), false),
    };
    let arms: Vec<_> = outcome.arms.iter().map(|arm| (arm.name.clone(), arm)).collect();
    let mut all = Vec::new();
    for seed in &outcome.seeds {
        for arm in &seed.arms {
            let Some(model) = &arm.model else { continue };
            let mut report = Report::new(format!("{}: {base}, part of which was unlearned", arm.name));
            for premise in &outcome.premises {
                report.warning(premise.as_str());
            }
            report.prose(format!(
                "This is what the arm `{}` of a run of unlearning made of {base}, with seed {}. The figures below are \
                 those of all arms of the run; what is claimed of the model was measured on this folder's weights as \
                 they were written.",
                arm.name, seed.seed
            ));
            for line in summary::verdict(outcome) {
                report.prose(line);
            }
            report.push(Section::Table(summary::claims_of(&arms, Cell::from)));
            report.heading("What was done").push(Section::Table(methods::of_arms(dir)?));
            report.heading("Before and after").push(Section::Table(figures::before_after(outcome)));
            if is_gguf && adapter_dir(model).exists() {
                report.heading("The adapter's base").prose(
                    "The adapter belongs to a GGUF file, which PEFT does not read. `amend convert FILE FOLDER` makes a \
                     folder of the same weights; its path goes into `adapter_config.json` as `base_model_name_or_path`.",
                );
            }
            report.heading("Limits").prose(
                "Weights and licence are those of the model it was made of, as far as they were not changed. That a \
                 model no longer says something does not mean that nothing can bring it back: see what the attacks \
                 found, and which attacks there were.",
            );
            let tags = vec!["unlearning".to_owned(), "amend".to_owned()];
            let adapter = adapter_dir(model);
            if adapter.exists() {
                let card = Card {
                    folder: adapter,
                    library: "peft".into(),
                    tags: tags.clone(),
                    report: report.clone(),
                };
                all.push(card);
            }
            all.push(Card { folder: model.clone(), library: "transformers".into(), tags, report });
        }
    }
    Ok(all)
}
