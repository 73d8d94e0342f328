//! What a run states of its models is what was measured, and what was not measured is not stated.

use std::path::Path;

use amend_eval::tofu::{TofuLog, TofuSet, aggregate, rows};
use amend_run::{RecipeSource, Silent, Stop, load};
use amend_unlearn::UnlearnRecipe;

use crate::support::{RECIPE, carry_out, create, recipe, run};

/// A model driven so far that the probabilities of all its answers vanish.
const DAMAGED: [&str; 5] = [
    "unlearn.forget=ga",
    "unlearn.combine=sum",
    "unlearn.attack=[]",
    "optimizer.lr=0.05",
    "stop.max_steps=30",
];

/// A run and the benchmark's own way from the logs that it wrote come to the same figures.
#[test]
fn figures_of_a_run_are_those_of_its_logs() {
    let (outcome, folder) = run(&DAMAGED);
    let log = |name: &str| {
        let log = TofuLog::read(&folder.path().join("run/eval").join(format!("{name}.json"))).unwrap();
        rows(&log)
    };
    let (seed, arm) = (&outcome.seeds[0], &outcome.seeds[0].arms[0]);
    assert!(arm.after.forget.probability.value < 1e-10, "{}", arm.after.forget.probability);
    let logged = log(&format!("{}-eval", arm.name));
    // Logarithms, because the ratios themselves no longer tell the items apart.
    let ratios: Vec<f64> =
        logged.iter().filter(|row| row.set == TofuSet::Forget).map(|row| row.log_truth_ratio).collect();
    assert_eq!(ratios.len(), arm.after.forget_log_ratios.len());
    for (logged, stated) in ratios.iter().zip(&arm.after.forget_log_ratios) {
        assert!((logged - stated).abs() < 1e-9, "{stated} and {logged}");
    }
    let official = aggregate(&logged, Some(&log("gold-eval")));
    let quality = arm.after.forget_quality(seed.gold.as_ref().unwrap());
    assert_eq!(quality, Some(official.forget_quality.clone().unwrap()));
    let sets = [
        (TofuSet::Forget, arm.after.forget.closer_to_one),
        (TofuSet::Retain, arm.after.retain.true_is_better),
    ];
    for (set, stated) in sets {
        let (stated, official) = (stated.unwrap(), official.set(set).unwrap().truth_ratio);
        assert!((stated.value - official.value).abs() < 1e-12, "{set:?}: {stated} and {official}");
    }
}

/// The report calls by the benchmark's name what is the benchmark's, and nothing else.
#[test]
fn the_report_has_the_truth_ratios_of_the_benchmark() {
    let (outcome, folder) = run(&["unlearn.attack=[]"]);
    let text = amend_unlearn::report(&outcome, &folder.path().join("run")).unwrap().to_html();
    let row =
        |name: &str| text.split("<tr").find(|row| row.contains(name)).unwrap_or_else(|| panic!("{name}"));
    let before = &outcome.seeds[0].before;
    for (name, figure) in [
        ("forget: truth ratio", before.forget.closer_to_one),
        ("forget: right above wrong", before.forget.true_is_better),
        ("retain: truth ratio", before.retain.true_is_better),
    ] {
        let value = figure.unwrap().format_value();
        assert!(row(name).contains(&value), "{name} is not {value}: {}", row(name));
    }
}

#[test]
fn without_text_there_is_no_rouge_and_no_utility() {
    let (outcome, folder) = run(&["eval.max_new_tokens=0", "unlearn.attack=[]"]);
    let after = &outcome.seeds[0].arms[0].after;
    assert_eq!((after.forget.rouge_l_recall, after.utility()), (None, None));
    assert!(after.forget.probability.value.is_finite() && after.retain.true_is_better.is_some());
    assert!(!folder.path().join("run/eval").exists(), "a log without text");
}

/// The number of items is that of the figure, which watches what is measured and not all that is learnt.
#[test]
fn the_watched_figure_says_what_it_was_measured_on() {
    let watched = |watch: &str| {
        let (outcome, _folder) = run(&[&format!("stop.watch={watch}"), "unlearn.attack=[]"]);
        outcome.seeds[0].arms[0].unlearned.watched
    };
    let (choice, probability) = (watched("choice"), watched("probability"));
    // Two people with four facts, each said in three ways; `eval.limit` is 6.
    assert_eq!((choice.n, probability.n), (6, 24));
    assert!(choice.stderr.is_some() && probability.stderr.is_some());
}

/// The recipe with its own data instead of a world, and one conversation or question per line.
fn with_files(folder: &Path, forget: &str, retain: &str) -> amend_run::recipe::Loaded<UnlearnRecipe> {
    for (name, text) in [("forget.jsonl", forget), ("retain.jsonl", retain)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let world = "[data.world]\npeople = 8\nforget = 0.25\nholdout = 0\n";
    assert!(RECIPE.contains(world));
    let path = |name: &str| folder.join(name).display().to_string();
    let files = format!("[data]\nforget = {:?}\nretain = {:?}\n", path("forget.jsonl"), path("retain.jsonl"));
    let source = RecipeSource { path: "files.toml".into(), text: RECIPE.replace(world, &files) };
    load(source, &[]).unwrap()
}

/// Half of one record is none, and an attack that is measured on nothing once counted as withstood.
#[test]
fn an_attack_that_could_be_measured_on_nothing_is_refused_before_training() {
    let scratch = tempfile::tempdir().unwrap();
    let line = |n: usize| format!("{{\"question\": \"Who wrote book {n}?\", \"answer\": \"Ann\"}}\n");
    let retain: String = (1..9).map(line).collect();
    let loaded = with_files(scratch.path(), &line(0), &retain);
    let dir = scratch.path().join("run");
    let ended = carry_out(create(&dir, &loaded), &loaded, &Silent, Stop::default());
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("relearn") && error.contains("at least 2"), "{error}");
    assert!(!dir.join("models").exists() && !dir.join("metrics.jsonl").exists());
}

#[test]
fn a_seed_of_the_worlds_own_is_refused_with_the_place_where_it_belongs() {
    let refused = |set: &str| {
        let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
        load::<UnlearnRecipe>(source, &[set.to_owned()]).map(|_| ()).unwrap_err().to_string()
    };
    let error = refused("data.world.seed=5");
    assert!(error.contains("`seed = 5` at the top level"), "{error}");
    // Recipes that were written out with their defaults have a 0 there.
    assert!(!recipe(&["data.world.seed=0", "seed=5"]).resolved.contains("seed = 0"));
}
