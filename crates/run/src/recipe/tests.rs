use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

trait Objective {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Npo {
    beta: f32,
    clip: f64,
}

impl Default for Npo {
    fn default() -> Self {
        Self { beta: 0.1, clip: 1.0 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Ascent {}

impl Objective for Npo {}
impl Objective for Ascent {}

crate::slot! {
    /// The forget objective.
    slot Forget("unlearn", "forget"): dyn Objective, default Ascent {
        "ga" => Ascent,
        "npo" => Npo,
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Precision {
    #[default]
    Bf16,
    F32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct ModelOptions {
    /// Folder of the model.
    path: RecipePath,
    #[serde(default)]
    precision: Precision,
    revision: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Unlearn {
    forget: Forget,
    also: Vec<Forget>,
    guard: Option<Forget>,
    steps: u32,
    rate: f64,
    weights: BTreeMap<String, f64>,
    range: Ranges,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Ranges {
    #[schemars(range(min = 0.0, max = 1.0))]
    share: Option<f64>,
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    eps: Option<f32>,
    #[schemars(range(min = 0.000001), extend("exclusiveMaximum" = 1.0))]
    decay: Option<f32>,
}

/// Note: no `deny_unknown_fields` anywhere; the loader must not depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Recipe {
    #[serde(default)]
    seed: u64,
    model: ModelOptions,
    #[serde(default)]
    unlearn: Unlearn,
}

const GOOD: &str = r#"
seed = 7
[model]
path = "models/a"
[unlearn]
forget = { name = "npo", beta = 0.25 }
also = ["ga", { name = "npo" }]
guard = "npo"
rate = 1
weights = { a = 0.5, b = 2 }
"#;

fn read(text: &str, sets: &[&str]) -> Result<Loaded<Recipe>, RecipeError> {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    load(RecipeSource { path: PathBuf::from("r.toml"), text: text.into() }, &sets)
}

/// The refusal of `text`, and the part of it that is pointed at.
fn refusal(text: &str) -> (RecipeError, String) {
    let error = read(text, &[]).expect_err("the recipe should be refused");
    let pointed = error.span.clone().map_or(String::new(), |span| text[span].to_owned());
    (error, pointed)
}

#[test]
fn a_good_recipe_resolves_to_an_equal_one_with_defaults_written_out() {
    let loaded = read(GOOD, &[]).unwrap();
    assert_eq!(loaded.recipe.unlearn.forget, Forget::Npo(Npo { beta: 0.25, clip: 1.0 }));
    assert_eq!(loaded.recipe.unlearn.also.len(), 2);
    assert!(loaded.resolved.contains("clip = 1.0"), "{}", loaded.resolved);
    assert!(loaded.resolved.contains("precision = \"bf16\""), "{}", loaded.resolved);
    let again = read(&loaded.resolved, &[]).unwrap();
    assert_eq!(again.recipe, loaded.recipe);
    assert_eq!(again.resolved, loaded.resolved);
}

#[test]
fn unknown_keys_are_pointed_at_wherever_they_are() {
    let cases = [
        ("sede = 1\n[model]\npath = \"a\"\n", "sede", "did you mean `seed`", "r.toml:1:1:"),
        ("[model]\npath = \"a\"\nprecison = \"f32\"\n", "precison", "`precision`", "r.toml:3:1:"),
        (
            "model.path = \"a\"\n[unlearn]\nforget = { name = \"npo\", betta = 1 }\n",
            "betta",
            "did you mean `beta`",
            "r.toml:3:26:",
        ),
        (
            "model.path = \"a\"\n[unlearn.guard]\nname = \"npo\"\nbetta = 1\n",
            "betta",
            "`beta`",
            "r.toml:4:1:",
        ),
        ("model.path = \"a\"\n[[unlearn.also]]\nname = \"ga\"\nbeta = 1\n", "beta", "name", "r.toml:4:1:"),
        ("model.path = \"a\"\n[modle]\npath = \"a\"\n", "modle", "`model`", "r.toml:2:2:"),
    ];
    for (text, word, hint, place) in cases {
        let (error, pointed) = refusal(text);
        assert_eq!(pointed, word, "{error}");
        assert!(error.message.contains("unknown key"), "{error}");
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error}");
        assert!(error.to_string().starts_with(place), "{error}");
    }
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let (error, pointed) = refusal("[unlearn]\nstepz = 1\nrate = \"x\"\n[model]\npth = \"a\"\n");
    assert_eq!(pointed, "stepz");
    let words: Vec<&str> = error.more.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(words[0].contains("must be a number") && words[1].contains("`path`"), "{words:?}");
}

#[test]
fn names_and_values_of_a_slot_or_choice() {
    let prefix = "model.path = \"a\"\n[unlearn]\n";
    let (error, pointed) = refusal(&format!("{prefix}forget = \"npoo\"\n"));
    assert_eq!(pointed, "\"npoo\"");
    assert!(error.hint.unwrap().contains("did you mean `npo`"));
    let (error, pointed) = refusal(&format!("{prefix}forget = {{ name = \"npoo\" }}\n"));
    assert_eq!(pointed, "\"npoo\"");
    assert!(error.hint.unwrap().contains("did you mean `npo`"));
    let (error, _) = refusal(&format!("{prefix}forget = {{ beta = 1 }}\n"));
    assert!(error.message.contains("missing key `name`"), "{error}");
    let (error, pointed) = refusal("[model]\npath = \"a\"\nprecision = \"f23\"\n");
    assert_eq!(pointed, "\"f23\"");
    assert!(error.hint.unwrap().contains("`f32`"));
}

#[test]
fn wrong_types_missing_keys_and_ranges() {
    let (error, pointed) = refusal("seed = 1\n[model]\n");
    assert_eq!(pointed, "model");
    assert!(error.message.contains("missing key `path` in `model`"), "{error}");
    assert!(error.hint.unwrap().contains("Folder of the model."));
    assert!(refusal("seed = 1\n").0.message.contains("missing key `model` in the recipe"));

    let prefix = "model.path = \"a\"\n";
    let (error, pointed) = refusal(&format!("{prefix}unlearn.steps = \"10\"\n"));
    assert_eq!(pointed, "\"10\"");
    assert!(error.message.contains("must be a whole number, found the string \"10\""), "{error}");
    assert_eq!(error.hint.unwrap(), "write 10 without quotes");
    let (error, _) = refusal(&format!("{prefix}unlearn.steps = 1e3\n"));
    assert_eq!(error.hint.unwrap(), "write 1000");
    let (error, pointed) = refusal(&format!("{prefix}unlearn.steps = -1\n"));
    assert_eq!(pointed, "-1");
    assert!(error.message.contains("at least 0"), "{error}");
    // Only the type knows that this does not fit; its place must not be lost for that.
    let (error, pointed) = refusal(&format!("{prefix}unlearn.steps = 5_000_000_000\n"));
    assert_eq!(pointed, "5_000_000_000", "{error}");
    assert!(refusal(&format!("{prefix}unlearn = 3\n")).0.message.contains("must be a table"));
    assert!(refusal("model = \"a\"\n").0.message.contains("must be a table"));
}

/// What is out of its range, not finite, or only within it until it is rounded to single precision.
#[test]
fn numbers_have_ranges() {
    let share = "at least 0 and at most 1";
    let decay = "at least 0.000001 and less than 1";
    for (set, range) in [
        ("range.share=-0.1", share),
        ("range.share=10", share),
        ("range.share=nan", share),
        ("range.eps=0", "more than 0"),
        ("range.eps=1e-50", "more than 0"),
        ("range.eps=inf", "more than 0"),
        ("range.eps=1e39", "more than 0"),
        ("range.decay=0", decay),
        ("range.decay=1", decay),
        ("range.decay=0.999999999", decay),
        ("rate=nan", "a finite number"),
        ("rate=-inf", "a finite number"),
        ("weights.a=nan", "a finite number"),
    ] {
        let error = read(GOOD, &[&format!("unlearn.{set}")]).expect_err(set);
        let (key, _) = set.split_once('=').unwrap();
        let message = format!("`unlearn.{key}` must be {range}, found the number");
        assert!(error.message.contains(&message), "{error}");
    }
    for set in ["share=1", "share=0.0", "eps=1e-8", "decay=0.000001", "decay=0.999"] {
        read(GOOD, &[&format!("unlearn.range.{set}")]).expect(set);
    }
    let options = Ranges { share: Some(1.5), eps: Some(0.0), decay: Some(0.5) };
    let error = check_options("a.b", &options).unwrap_err();
    assert!(error.contains("`a.b.share` must be at least 0 and at most 1, found the number 1.5"), "{error}");
    assert!(error.contains("`a.b.eps`") && !error.contains("decay"), "{error}");
}

#[test]
fn a_key_in_the_wrong_table_is_pointed_to_the_right_one() {
    for (set, place) in [
        ("rate=1", "`unlearn.rate`"),
        ("path=a", "`model.path`"),
        ("unlearn.precision=f32", "`model.precision`"),
        ("eps=1", "`unlearn.range.eps`"),
    ] {
        let error = read(GOOD, &[set]).unwrap_err();
        assert!(
            error.hint.as_ref().unwrap().starts_with(&format!("did you mean {place}? valid keys: ")),
            "{error}"
        );
    }
    // Whether there is such an option depends on what fills the slot.
    assert!(!read(GOOD, &["beta=1"]).unwrap_err().hint.unwrap().contains("unlearn.forget"));
}

#[test]
fn malformed_toml_is_pointed_at() {
    let (error, _) = refusal("seed = 1\n[model\npath = \"a\"\n");
    assert!(error.message.contains("malformed TOML"), "{error}");
    assert!(error.to_string().starts_with("r.toml:2:"), "{error}");
    let (error, _) = refusal("seed = 1\nseed = 2\n");
    assert!(error.to_string().starts_with("r.toml:2:"), "{error}");
}

#[test]
fn absurd_nesting_is_refused_and_does_not_exhaust_the_stack() {
    let dotted = vec!["a"; 30_000].join(".");
    for text in [format!("a = {}", "[".repeat(30_000)), format!("{dotted} = 1"), format!("[{dotted}]\nb = 1")]
    {
        assert!(read(&text, &[]).is_err());
    }
    assert!(read(GOOD, &[&format!("{dotted}=1")]).is_err());
}

#[test]
fn overrides() {
    let sets = ["seed=9", "model.path=models/b", "unlearn.guard.beta=0.5", "unlearn.also.1.clip=3"];
    let recipe = read(GOOD, &sets).unwrap().recipe;
    assert_eq!(recipe.seed, 9);
    assert_eq!(recipe.model.path.as_str(), "models/b");
    assert_eq!(recipe.unlearn.guard, Some(Forget::Npo(Npo { beta: 0.5, clip: 1.0 })));
    assert_eq!(recipe.unlearn.also[1], Forget::Npo(Npo { beta: 0.1, clip: 3.0 }));
    let whole = read(GOOD, &["unlearn.forget={ name = \"npo\", clip = 2.0 }"]).unwrap().recipe;
    assert_eq!(whole.unlearn.forget, Forget::Npo(Npo { beta: 0.1, clip: 2.0 }));

    for (set, word) in [
        ("unlearn.stepz=1", "unknown key `stepz`"),
        ("unlearn.forget.betta=1", "unknown key `betta`"),
        ("unlearn.steps=many", "must be a whole number"),
        ("unlearn.steps", "KEY=VALUE"),
        ("seed.a=1", "`seed` is the number 7"),
        ("unlearn.also.9.beta=1", "an array of 2"),
        ("=1", "dotted key"),
        ("model.path.x=1", "`model.path` must be a string, found a table"),
    ] {
        let error = read(GOOD, &[set]).unwrap_err();
        assert!(error.message.starts_with(&format!("--set {set}: ")), "{error}");
        assert!(error.message.contains(word), "{error}");
        assert_eq!(error.span, None, "a flag has no place in the file");
    }
}

#[test]
fn a_flattened_or_untagged_type_is_checked_too() {
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum Source {
        File { path: String },
        Web { url: String },
    }
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Flat {
        limit: u32,
        #[serde(flatten)]
        source: Source,
    }
    let read = |text: &str| {
        load::<Flat>(RecipeSource { path: "r.toml".into(), text: text.into() }, &[]).map(|l| l.recipe)
    };
    assert!(matches!(
        read("limit = 1\nkind = \"file\"\npath = \"a\"\n").unwrap().source,
        Source::File { .. }
    ));
    let error = read("limit = 1\nkind = \"web\"\nulr = \"a\"\n").unwrap_err();
    assert!(error.to_string().contains("did you mean `url`"), "{error}");
    let error = read("limit = 1\nkind = \"wep\"\nurl = \"a\"\n").unwrap_err();
    assert!(error.to_string().contains("did you mean `web`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn mutated_recipes_never_panic(
        cuts in proptest::collection::vec((0usize..400, 0usize..12, "[\\PC\\n]{0,6}|[\\[\\]{}=.\"'\\n,#]{1,3}"), 1..5),
        set in "[a-z.=\\[\\]{}\"0-9]{0,16}",
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (start, count, insert) in cuts {
            let start = start.min(text.len());
            let end = (start + count).min(text.len());
            text.splice(start..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = read(&text, &[&set]) {
            let _ = error.to_string();
            if let Some(span) = error.span {
                prop_assert!(text.get(span).is_some(), "the span is no part of the text");
            }
        }
    }

    #[test]
    fn resolved_recipes_round_trip(
        seed in 0..i64::MAX as u64, beta in any::<f32>(), clip in any::<f64>(), steps in any::<u32>(),
        path in "\\PC{0,12}", revision in proptest::option::of("[\\PC\\n\\t]{0,12}"), guarded in any::<bool>(),
        weights in proptest::collection::btree_map("\\PC{0,5}", -1e6f64..1e6, 0..4),
    ) {
        prop_assume!(!beta.is_nan() && !clip.is_nan());
        let guard = guarded.then_some(Forget::Npo(Npo { beta, clip }));
        let recipe = Recipe {
            seed,
            model: ModelOptions { path: RecipePath(path), precision: Precision::F32, revision },
            unlearn: Unlearn {
                forget: Forget::Npo(Npo { beta, clip }),
                also: vec![Forget::default(), Forget::Npo(Npo { beta, clip })],
                guard, steps, rate: clip, weights, range: Ranges::default(),
            },
        };
        let text = toml::to_string(&recipe).unwrap();
        let loaded = read(&text, &[]).unwrap();
        prop_assert_eq!(&loaded.recipe, &recipe);
        prop_assert_eq!(read(&loaded.resolved, &[]).unwrap().recipe, recipe);
    }
}
