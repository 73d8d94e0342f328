//! Finished runs side by side.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{TINY_RUN, amend, fails, json_of, stdout};

/// A folder with runs of one tiny recipe in it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), TINY_RUN).unwrap();
        Bench { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// Runs the recipe with some of its values replaced.
    fn run(&self, name: &str, sets: &[&str]) {
        let mut args = vec!["run".to_owned(), self.arg("tiny.toml"), "--out".into(), self.arg(name)];
        args.extend(sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
        let output = amend(&args).assert().get_output().clone();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The command that compares these runs, with the page beside them.
    fn args(&self, runs: &[&str], more: &[&str]) -> Vec<String> {
        let runs = runs.iter().map(|run| self.arg(run));
        let page = ["--out".to_owned(), self.arg("page.html")];
        let more = more.iter().map(|arg| (*arg).to_owned());
        std::iter::once("compare".to_owned()).chain(runs).chain(page).chain(more).collect()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The difference in a figure between the arms of two runs.
fn difference<'v>(compared: &'v Value, run: &str, figure: &str) -> &'v Value {
    let all = compared["results"]["differences"].as_array().unwrap();
    all.iter().find(|row| row["run"] == run && row["figure"] == figure).unwrap()
}

const ATTACKED: &str = "unlearn.attack=[{ name = \"relearn\", steps = 2, batch_size = 2, every = 1 }]";

#[test]
fn runs_are_compared_as_text_page_and_json() {
    let bench = Bench::new();
    bench.run("slow", &[ATTACKED]);
    bench.run("fast", &[ATTACKED, "optimizer.lr=1e-2"]);

    let told = stdout(&bench.args(&["slow", "fast"], &[]));
    for part in [
        "optimizer.lr",
        "0.01",
        "slow (baseline)",
        "Differences to slow",
        "4 pairs",
        "unpaired",
        "forgotten?",
    ] {
        assert!(told.contains(part), "no {part} in: {told}");
    }
    assert!(told.contains(&format!("page     {}", bench.arg("page.html"))), "{told}");
    assert!(!told.contains("learning_rate") && !told.contains("max_steps"), "only what differs: {told}");
    assert!(told.lines().all(|line| line.chars().count() <= 90), "{told}");
    for columns in ["80", "120"] {
        let output = amend(&bench.args(&["slow", "fast"], &[])).env("COLUMNS", columns).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let is_table = |line: &&str| !line.starts_with("page");
        let widest = text.lines().filter(is_table).map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns.parse().unwrap(), "{widest} columns of {columns}: {text}");
    }

    let page = read(&bench.at("page.html"));
    for part in [
        "<h1>Comparison of runs</h1>",
        ">What differs</h2>",
        ">Figures side by side</h2>",
        ">Differences to slow</h2>",
        ">While forgetting</h2>",
        ">Attack: relearn</h2>",
        ">The runs</h2>",
        "Retained knowledge",
        "Retain loss",
        "Forgotten items the attacker never saw: accuracy",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    for outside in ["src=", "url(", "<script", "href=\"http", "href=\"/"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Every curve is there once per run; the gold model, which is the same, once.
    let attack = page.split("Attack: relearn</h2>").nth(1).unwrap();
    let first = attack.split("</svg>").next().unwrap();
    let named = |name: &str| first.matches(&format!("{name}\n</text>")).count();
    assert_eq!((named("slow"), named("fast"), named("gold")), (1, 1, 1));

    let compared = json_of(&bench.args(&["slow", "fast"], &["--json"]));
    assert_eq!((&compared["baseline"], &compared["page"]), (&"slow".into(), &bench.arg("page.html").into()));
    assert_eq!(compared["recipes"].as_array().unwrap().len(), 1, "{}", compared["recipes"]);
    assert_eq!(compared["recipes"][0]["values"], serde_json::json!(["0.001", "0.01"]));
    let arms = compared["results"]["arms"].as_array().unwrap();
    let figure = |run: &str, name: &str| {
        let arm = arms.iter().find(|arm| arm["run"] == run).unwrap();
        arm["figures"][name]["value"].as_f64().unwrap()
    };
    assert!(arms.iter().all(|arm| arm["claims"].as_array().is_some_and(|claims| claims.len() == 3)));
    let retain = difference(&compared, "fast", "retain: probability");
    let expected = figure("fast", "retain_probability") - figure("slow", "retain_probability");
    assert!((retain["value"].as_f64().unwrap() - expected).abs() < 1e-9, "{retain}");
    assert_eq!(
        (&retain["paired_by"], &retain["n"], &retain["baseline_n"]),
        (&"question".into(), &4.into(), &4.into())
    );
    assert!(retain["stderr"].is_number() && retain["significant"].is_boolean());
    // An attack leaves one figure per seed.
    assert!(difference(&compared, "fast", "relearn: accuracy")["paired_by"].is_null());
    assert!(compared["results"]["unpaired"].as_array().unwrap().is_empty());
    assert!(
        compared["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .all(|w| !w.as_str().unwrap().contains("item by item"))
    );

    // The other way round.
    for baseline in ["fast".to_owned(), bench.arg("fast")] {
        let turned = json_of(&bench.args(&["slow", "fast"], &["--json", "--baseline", &baseline]));
        assert_eq!((&turned["baseline"], &turned["runs"][0]["name"]), (&"fast".into(), &"fast".into()));
        let again = difference(&turned, "slow", "retain: probability");
        assert_eq!(again["value"].as_f64().unwrap(), -retain["value"].as_f64().unwrap());
        assert_eq!(again["stderr"], retain["stderr"]);
    }
    fails(&bench.args(&["slow", "fast"], &["--baseline", "fats"]), &["fats", "did you mean fast?"]);

    // Only an earlier comparison is replaced.
    let thesis = bench.arg("thesis.tex");
    fs::write(&thesis, "years").unwrap();
    let report = bench.arg("slow/report.html");
    let before = read(Path::new(&report));
    for file in [&thesis, &report] {
        fails(&["compare", &bench.arg("slow"), &bench.arg("fast"), "--out", file], &[file, "not an earlier"]);
    }
    assert_eq!((read(Path::new(&thesis)).as_str(), read(Path::new(&report))), ("years", before));
    fails(
        &["compare", &bench.arg("slow"), &bench.arg("fast"), "--out", &bench.arg("slow")],
        &["is a folder"],
    );
    let missing = bench.arg("nowhere/page.html");
    fails(&["compare", &bench.arg("slow"), &bench.arg("fast"), "--out", &missing], &["nowhere/page.html"]);
}

#[test]
fn what_cannot_be_paired_says_so() {
    let bench = Bench::new();
    bench.run("base", &[]);
    bench.run("limit", &["eval.limit=3"]);
    bench.run("seed", &["seed=5"]);
    bench.run("world", &["data.world.people=9"]);
    bench.run("model", &["model.scratch.hidden=16"]);
    let compared = json_of(&bench.args(&["base", "limit", "seed", "world", "model"], &["--json"]));
    let reasons: Vec<(&str, &str)> = compared["results"]["unpaired"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["run"].as_str().unwrap(), row["reason"].as_str().unwrap()))
        .collect();
    for (run, part) in [
        ("limit", "3 questions of the retain set were asked instead of 4"),
        ("seed", "no seed is the same (5 against 0)"),
        ("world", "the data is another (data.world.people)"),
        ("model", "the model is another (model.scratch.hidden)"),
    ] {
        assert!(reasons.iter().any(|(of, reason)| *of == run && reason.contains(part)), "{reasons:?}");
        let row = difference(&compared, run, "retain: probability");
        assert!(row["paired_by"].is_null() && row["stderr"].is_number(), "{row}");
    }
    let warnings = compared["warnings"].to_string();
    for run in ["world", "model"] {
        let said =
            format!("`{run}` is not that of `base` ({}", if run == "world" { "data" } else { "model" });
        assert!(warnings.contains(&said) && warnings.contains("not comparable item by item"), "{warnings}");
    }
    let told = stdout(&bench.args(&["base", "seed"], &[]));
    assert!(told.contains("cannot be paired") && told.contains("5 against 0"), "{told}");
}

#[test]
fn several_seeds_are_the_pairs_and_arms_go_with_their_names() {
    let bench = Bench::new();
    let arms = "compare=[{ combine = \"sum\" }, { combine = \"sago\" }]";
    bench.run("one", &["seeds=2", arms]);
    bench.run("two", &["seeds=2", "optimizer.lr=1e-2", arms]);
    let compared = json_of(&bench.args(&["one", "two"], &["--json"]));
    let rows = compared["results"]["differences"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 4, "two arms, four figures");
    for row in rows {
        assert_eq!(
            (&row["arm"], &row["paired_by"], &row["n"]),
            (&row["baseline_arm"], &"seed".into(), &2.into())
        );
    }
    let labels: Vec<&str> = compared["results"]["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arm| arm["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels, ["one · sum", "one · sago", "two · sum", "two · sago"]);
    let page = read(&bench.at("page.html")).replace('\u{a0}', " ");
    assert!(page.contains("Differences to one</h2>") && page.contains("2 pairs of seeds"));
}

#[test]
fn what_is_no_finished_run_is_refused() {
    let bench = Bench::new();
    let [one, two] = ["runs/one", "runs/two"].map(|name| {
        fs::create_dir_all(bench.at("runs")).unwrap();
        bench.run(name, &["stop.max_steps=1"]);
        bench.arg(name)
    });
    fails(&["compare"], &["<RUN>"]);
    fails(&["compare", &one], &["only one run", "two or more"]);
    fails(&["compare", &one, &one], &["given twice"]);
    fails(&["compare", &bench.arg("runs")], &["holds 2", &one, &two]);
    fails(&["compare", &one, &bench.arg("nothing")], &["not a run folder", "nothing", "amend runs"]);
    fails(&["compare", &one, &bench.arg("tiny.toml")], &["not a run folder", "tiny.toml"]);
    let cut = bench.arg("cut");
    drop(amend_run::RunFolder::create(Path::new(&cut), TINY_RUN, amend_run::RunInfo::default()).unwrap());
    fails(&["compare", &one, &cut], &["not finished", &format!("amend resume {cut}")]);

    let recipe = bench.at("runs/two/recipe.toml");
    let text = read(&recipe);
    fs::write(&recipe, text.replace("method = \"unlearn\"", "method = \"train\"")).unwrap();
    fails(&["compare", &one, &two], &["a run of `unlearn`", "`train`"]);
    fs::write(&recipe, "method = \"unlearn\"\nseed = \n").unwrap();
    fails(&["compare", &one, &two], &["recipe.toml", "malformed TOML"]);
    fs::write(&recipe, text).unwrap();
    fs::write(bench.at("runs/two/results.json"), "{ \"passed\": true }").unwrap();
    fails(&["compare", &one, &two], &["results.json"]);
    fs::write(bench.at("runs/two/results.json"), "{").unwrap();
    fails(&["compare", &one, &two], &["results.json"]);
}
