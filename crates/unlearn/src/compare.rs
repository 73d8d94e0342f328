//! Arms: what a run puts side by side. Each is the recipe's slots with some of them filled differently.

use std::fmt;

use amend_learn::Optimizer;
use amend_run::RecipePath;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use crate::combine::Combination;
use crate::forget::Forget;
use crate::guard::Guard;
use crate::recipe::{Slots, UnlearnRecipe};
use crate::retain::Retain;
use crate::r#where::Where;

/// Folders of a run that are not an arm's.
const TAKEN: [&str; 2] = ["base", "gold"];

/// One arm of a comparison: what it fills differently from `[unlearn]`. What it leaves out is the same for all.
/// Attacks and verdicts are the same for all arms in any case: otherwise there would be nothing to compare.
#[derive(Clone, Debug, Default, PartialEq, Serialize, DeriveDeserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Variation {
    /// What the arm is called, in reports and folders; default: the names of its fillers, joined by `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A model that forgot elsewhere, a folder or GGUF file: it is opened instead of trained, and measured and attacked as
    /// the others are. Such an arm needs a `name` and fills no slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<RecipePath>,
    /// What lowers the model's grip on the forget set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget: Option<Forget>,
    /// What holds on to everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<Retain>,
    /// How the two gradients become one update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub combine: Option<Combination>,
    /// Which weights the update may touch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#where: Option<Where>,
    /// What stands around the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Weight γ of the forget gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub forget_weight: Option<f32>,
    /// Weight α of the retain gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub retain_weight: Option<f32>,
    /// Largest learning rate. Rates are not comparable between objectives or places; give each its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
}

impl Variation {
    /// What the arm is called; `None` where nothing says so.
    fn name(&self) -> Option<String> {
        if self.name.is_some() {
            return self.name.clone();
        }
        let names: Vec<&str> = self.fillers().map(|(_, name)| name).collect();
        (!names.is_empty()).then(|| names.join("-"))
    }

    /// The slots that it fills, with what fills them.
    fn fillers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let all = [
            ("forget", self.forget.as_ref().map(Forget::name)),
            ("retain", self.retain.as_ref().map(Retain::name)),
            ("combine", self.combine.as_ref().map(Combination::name)),
            ("where", self.r#where.as_ref().map(Where::name)),
            ("guard", self.guard.as_ref().map(Guard::name)),
        ];
        all.into_iter().filter_map(|(slot, name)| Some((slot, name?)))
    }

    /// Whether it says anything about how the arm is trained.
    fn trains(&self) -> bool {
        self.fillers().next().is_some()
            || self.forget_weight.is_some()
            || self.retain_weight.is_some()
            || self.lr.is_some()
    }

    /// The slots and the optimiser of the arm.
    fn apply(&self, recipe: &UnlearnRecipe) -> (Slots, Optimizer) {
        let (mut slots, mut optimizer) = (recipe.unlearn.clone(), recipe.optimizer.clone());
        replace(&mut slots.forget, &self.forget);
        replace(&mut slots.retain, &self.retain);
        replace(&mut slots.combine, &self.combine);
        replace(&mut slots.r#where, &self.r#where);
        replace(&mut slots.guard, &self.guard);
        replace(&mut slots.retain_weight, &self.retain_weight);
        replace(&mut optimizer.lr, &self.lr);
        slots.forget_weight = self.forget_weight.or(slots.forget_weight);
        (slots, optimizer)
    }
}

fn replace<T: Clone>(value: &mut T, by: &Option<T>) {
    if let Some(by) = by {
        value.clone_from(by);
    }
}

/// The arms of a comparison, under names of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Compare(Vec<Variation>);

impl Compare {
    /// The models that forgot elsewhere, each with its place among the arms.
    pub fn models(&self) -> impl Iterator<Item = (usize, &RecipePath)> {
        self.0.iter().enumerate().filter_map(|(arm, variation)| Some((arm, variation.model.as_ref()?)))
    }

    /// Models that forgot elsewhere, under their names.
    pub(crate) fn of_models(models: impl Iterator<Item = (String, RecipePath)>) -> Self {
        let arm = |(name, model)| Variation { name: Some(name), model: Some(model), ..Variation::default() };
        Compare(models.map(arm).collect())
    }

    /// Whether nothing is compared: the run has one arm, which is `[unlearn]` as it stands.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl JsonSchema for Compare {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Compare".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Variation>::json_schema(generator)
    }
}

/// By hand, so that a name that cannot stand is refused where it stands, with its line.
impl<'de> Deserialize<'de> for Compare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Variations;

        impl<'de> Visitor<'de> for Variations {
            type Value = Compare;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of arms")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Compare, A::Error> {
                let mut folders: Vec<String> = TAKEN.map(str::to_owned).to_vec();
                let mut all = Vec::new();
                while let Some(one) = items.next_element_seed(Named { folders: &mut folders })? {
                    all.push(one);
                }
                Ok(Compare(all))
            }
        }

        deserializer.deserialize_seq(Variations)
    }
}

/// Reads one arm, whose name and folders no other may have.
struct Named<'f> {
    folders: &'f mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Variation;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Variation, D::Error> {
        let arm = Variation::deserialize(deserializer)?;
        let refuse = |message: String| Err(de::Error::custom(message));
        if arm.model.is_some() && arm.trains() {
            return refuse(
                "an arm with a `model` is not trained; it needs a `name` and fills no slot".into(),
            );
        }
        let Some(name) = arm.name() else {
            return refuse("an arm that fills no slot differently needs a `name`".into());
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
            return refuse(format!(
                "an arm's name becomes a folder's: letters, digits, `-`, `_` and `.`, and not {name:?}"
            ));
        }
        // An adapter lies beside its arm's model. Not all file systems tell `A` from `a`.
        // Stages keep their checkpoints in folders where `.` is `_`.
        let folders = [name.clone(), format!("{name}-adapter")];
        for folder in folders.map(|folder| folder.to_lowercase().replace('.', "_")) {
            if self.folders.contains(&folder) {
                return refuse(format!(
                    "the name `{name}` of this arm clashes with `{folder}`, which is taken; give it a `name` of its own"
                ));
            }
            self.folders.push(folder);
        }
        Ok(arm)
    }
}

/// What one arm of a run works with.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// What it is called.
    pub name: String,
    /// Its slots.
    pub slots: Slots,
    /// Its optimiser.
    pub optimizer: Optimizer,
    /// A model that forgot elsewhere: it is opened, and slots and optimiser do nothing.
    pub model: Option<RecipePath>,
    /// Its place among those that are compared, and the slots that it fills itself there.
    own: Option<(usize, Vec<&'static str>)>,
}

impl Arm {
    /// The dotted key under which the recipe says what fills a slot of the arm.
    pub(crate) fn key(&self, slot: &str) -> String {
        match &self.own {
            Some((place, slots)) if slots.contains(&slot) => format!("compare.{place}.{slot}"),
            _ => format!("unlearn.{slot}"),
        }
    }

    /// Runs `slots` as an arm of its own.
    pub(crate) fn plain(name: &str, slots: Slots, optimizer: Optimizer) -> Self {
        Arm { name: name.to_owned(), slots, optimizer, model: None, own: None }
    }
}

impl UnlearnRecipe {
    /// Whether nothing is trained and the only model is the one that is asked about: what it was like before it forgot,
    /// nobody says.
    pub fn is_audit(&self) -> bool {
        let arms = self.arms();
        self.model.path.is_some() && arms.iter().all(|arm| arm.model == self.model.path)
    }

    /// Whether one arm is run with one seed; its model is then in `model/` instead of `models/NAME/`.
    pub(crate) fn is_single(&self) -> bool {
        self.compare.is_empty() && self.seeds().len() == 1
    }

    /// Whether any arm is trained.
    pub(crate) fn trains(&self) -> bool {
        self.arms().iter().any(|arm| arm.model.is_none())
    }

    /// The arms of the run: those that are compared, otherwise the one that `[unlearn]` describes.
    pub fn arms(&self) -> Vec<Arm> {
        if self.compare.is_empty() {
            let name = format!("{}-{}", self.unlearn.forget.name(), self.unlearn.combine.name());
            return vec![Arm::plain(&name, self.unlearn.clone(), self.optimizer.clone())];
        }
        let arm = |(place, variation): (usize, &Variation)| {
            let (slots, optimizer) = variation.apply(self);
            let own = Some((place, variation.fillers().map(|(slot, _)| slot).collect()));
            Some(Arm { name: variation.name()?, slots, optimizer, model: variation.model.clone(), own })
        };
        self.compare.0.iter().enumerate().filter_map(arm).collect()
    }
}

#[cfg(test)]
mod tests {
    use amend_run::{RecipeSource, load};

    use super::*;

    fn recipe(compare: &str) -> Result<UnlearnRecipe, String> {
        let text = format!("method = \"unlearn\"\n[model]\n[data]\n[unlearn]\nforget = \"npo\"\n{compare}");
        let source = RecipeSource { path: "arms.toml".into(), text };
        load::<UnlearnRecipe>(source, &[]).map(|loaded| loaded.recipe).map_err(|e| e.to_string())
    }

    fn names(compare: &str) -> Vec<String> {
        recipe(compare).unwrap().arms().into_iter().map(|arm| arm.name).collect()
    }

    #[test]
    fn arms_are_called_what_they_differ_in() {
        assert_eq!(names(""), ["npo-sago"]);
        let arms = "[[compare]]\ncombine = \"sum\"\n[[compare]]\nforget = \"ga\"\nwhere = \"lora\"\n\
                    [[compare]]\nname = \"slow\"\nlr = 1e-6";
        assert_eq!(names(arms), ["sum", "ga-lora", "slow"]);
    }

    #[test]
    fn what_an_arm_leaves_out_is_the_recipes() {
        let arms = recipe("retain_weight = 2.0\n[[compare]]\ncombine = \"sum\"\nlr = 0.5").unwrap().arms();
        assert_eq!((arms[0].slots.forget.name(), arms[0].slots.combine.name()), ("npo", "sum"));
        assert_eq!((arms[0].slots.retain_weight, arms[0].optimizer.lr), (2.0, 0.5));
    }

    /// Two arms of one rule had one name, and the second took the first's results for its own.
    #[test]
    fn two_arms_of_one_name_are_refused_with_the_line() {
        let rule = |scope| format!("[[compare]]\ncombine = {{ name = \"pcgrad\", scope = \"{scope}\" }}\n");
        let both = rule("tensor") + &rule("global");
        let error = recipe(&both).unwrap_err();
        assert!(error.contains("`pcgrad`") && error.contains("arms.toml:8"), "{error}");
        let named = rule("tensor") + &rule("global") + "name = \"whole\"";
        assert_eq!(names(&named), ["pcgrad", "whole"]);
    }

    #[test]
    fn a_model_that_forgot_elsewhere_is_an_arm_that_fills_no_slot() {
        let arms = recipe("[[compare]]\nname = \"theirs\"\nmodel = \"x\"\n[[compare]]\ncombine = \"sum\"");
        let arms = arms.unwrap().arms();
        assert_eq!(arms[0].model.as_ref().map(RecipePath::as_str), Some("x"));
        assert_eq!(arms[1].model, None);
        let both = recipe("[[compare]]\nname = \"theirs\"\nmodel = \"x\"\nlr = 1.0").unwrap_err();
        assert!(both.contains("is not trained"), "{both}");
    }

    #[test]
    fn names_that_are_no_folders_of_their_own_are_refused() {
        assert!(recipe("[[compare]]\nname = \"x\"\n[[compare]]\nname = \"X\"").unwrap_err().contains("`X`"));
        for (name, part) in [("gold", "clashes"), ("a/b", "folder"), ("..", "folder"), ("", "folder")] {
            let error = recipe(&format!("[[compare]]\nname = \"{name}\"")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let beside = "[[compare]]\nname = \"x\"\n[[compare]]\nname = \"x-adapter\"";
        assert!(recipe(beside).unwrap_err().contains("`x-adapter`"));
        assert!(recipe("[[compare]]\nlr = 0.1").unwrap_err().contains("needs a `name`"));
    }
}
