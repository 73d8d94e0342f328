//! What is known before a run computes, and what may be changed while it is interrupted.

use std::fs;
use std::path::Path;

use amend_engine::Model;
use serde_json::Value;

use crate::runs::{Bench, run_to, status};
use crate::support::{Scratch, amend, fails, json_of, stdout};

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_check_says_what_a_run_takes_and_leaves_nothing() {
    let bench = Bench::new();
    let check = ["check", &bench.recipe, "--set", "compare=[{ combine = \"sum\" }, { where = \"lora\" }]"];
    let told = stdout(&check);
    for part in ["nothing stands against it", "to forget", "to keep", "lora", "arm 2 of 2", "memory", "disk"]
    {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    let said = json_of(&[&check[..], &["--json"]].concat());
    let forecast = &said["forecast"];
    assert!(said["seconds"].as_f64().unwrap() > 0.0 && forecast["memory"].as_u64().unwrap() > 100_000);
    let arms = forecast["arms"].as_array().unwrap();
    assert_eq!(arms[0]["weights"], arms[0]["changing"]);
    assert!(arms[1]["changing"].as_u64() < arms[0]["changing"].as_u64());
    assert_eq!(forecast["sets"][0]["name"], "to forget");
    // More steps than anybody can wait for are still a number.
    let endless = stdout(&["check", &bench.recipe, "--set", "stop.max_steps=9223372036854775807"]);
    assert!(endless.contains("if every step is taken"), "{endless}");
    // All but the times, which no two checks measure alike.
    let lengths = |args: &[&str]| stdout(args).split("\narm").next().unwrap().to_owned();
    assert_eq!(
        lengths(&["run", &bench.recipe, "--dry-run"]),
        lengths(&["check", &bench.recipe]),
        "one check"
    );
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 1, "nothing is written");
}

/// Names that do not agree would leave a run without its place and its time left.
#[test]
fn a_run_has_the_stages_that_were_forecast() {
    let bench = Bench::new();
    let sets = [
        "--set",
        "compare=[{ combine = \"sum\" }, { where = \"lora\" }]",
        "--set",
        "unlearn.attack=[{ name = \"relearn\", steps = 2, batch_size = 2, every = 1 }]",
        "--set",
        "seeds=[3, 1]",
    ];
    let said = json_of(&[&["check", &bench.recipe][..], &sets, &["--json"]].concat());
    let planned: Vec<&str> =
        said["forecast"]["stages"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    let out = bench.out("run");
    run_to(&bench, &out, &sets);
    let state = json(&out.join("run.json"));
    let done: Vec<&String> = state["stages"].as_object().unwrap().keys().collect();
    assert_eq!(done, planned);
    assert!(done[0].starts_with("seed3-"), "seeds come in the order of the list");
}

/// It failed after the base model had been measured, which takes minutes.
#[test]
fn what_can_be_known_before_is_said_before() {
    let bench = Bench::new();
    let out = bench.out("late");
    let arg = out.to_str().unwrap();
    for (set, parts) in [
        ("unlearn.where={ name = \"layers\", layers = [99] }", ["layer 99", "0 to 0"]),
        ("unlearn.where={ name = \"lora\", targets = [\"q_prj\"] }", ["q_prj", "q_proj"]),
        ("unlearn.where={ name = \"lora\", r = 100000000 }", ["of memory", "smaller rank"]),
        ("model.scratch.context=8", ["no token to score", "8 tokens"]),
        ("unlearn.verdict=[\"withstands\"]", ["withstands", "no attack"]),
        ("seeds=[1, 1]", ["seed 1", "twice"]),
        ("unlearn.verdict=[\"kept\", \"kept\"]", ["`kept` twice", "once"]),
        ("optimizer.lr=inf", ["`optimizer.lr` must be at least 0", "inf, which is not finite"]),
        ("compare=[{ combine = \"sum\" }", ["begins like a table or a list", "missing"]),
        ("seed=99999999999999999999", ["99999999999999999999 is beyond", "9223372036854775807"]),
        ("seeds=1000000000000000", ["seeds", "10000"]),
    ] {
        fails(&["check", &bench.recipe, "--set", set], &parts);
        fails(&["run", &bench.recipe, "--out", arg, "--set", set], &parts);
        assert!(!out.exists(), "{set}: nothing is left behind");
    }
    fails(&["run", &bench.recipe, "--seeds", "1,x"], &["--seeds", "1,7,42"]);
    fails(&["run", &bench.recipe, "--seeds", "1,1"], &["--seeds", "seed 1 stands twice"]);
    fails(&["run", &bench.recipe, "--checkpoint-every", "-1"], &["give seconds"]);
    let idle = amend(&["check", &bench.recipe, "--set", "optimizer.lr=0", "--set", "stop.check_every=9"]);
    let told = String::from_utf8({ idle }.assert().code(0).get_output().stderr.clone()).unwrap();
    assert!(
        told.contains("learning rate of arm") && told.contains("nobody looks before the last step"),
        "{told}"
    );
    fails(
        &["run", &bench.recipe, "--seeds", "3", "--set", "seeds=4"],
        &["--seeds and --set seeds=4", "leave one"],
    );
}

/// What only the data or the model can show to be wrong stands in the recipe all the same.
#[test]
fn what_does_not_fit_is_pointed_at_in_the_recipe() {
    let bench = Bench::new();
    let text = fs::read_to_string(&bench.recipe).unwrap();
    let with = |more: &str| {
        let file = bench.folder.path().join("other.toml");
        fs::write(&file, format!("{text}{more}")).unwrap();
        let lines = text.lines().count();
        (file.to_str().unwrap().to_owned(), lines)
    };
    let (file, lines) =
        with("[[compare]]\ncombine = \"sum\"\n[[compare]]\nwhere = { name = \"layers\", layers = [99] }\n");
    fails(&["check", &file], &[&format!("other.toml:{}:1", lines + 4), "layer 99"]);
    let (file, lines) = with("[[compare]]\nname = \"alone\"\ncombine = \"sago\"\nretain = \"none\"\n");
    fails(&["check", &file], &[&format!("other.toml:{}:11", lines + 3), "leaves only one"]);
    let set = "unlearn.where={ name = \"layers\", layers = [99] }";
    fails(&["check", &bench.recipe, "--set", set], &["--set unlearn.where=", "layer 99"]);
}

#[test]
fn seeds_may_be_listed() {
    let bench = Bench::new();
    let out = bench.out("seeds");
    let result: Value = serde_json::from_slice(&run_to(&bench, &out, &["--seeds", "7,2", "--json"])).unwrap();
    let seeds: Vec<_> = result["results"]["seeds"].as_array().unwrap().iter().map(|s| &s["seed"]).collect();
    assert_eq!(seeds, [7, 2]);
}

#[test]
fn what_is_not_to_be_saved_goes_and_what_stays_says_what_it_is() {
    let bench = Bench::new();
    let arms = "compare=[{ combine = \"sum\" }, { name = \"adapter\", where = \"lora\" }]";
    let kept = |save: &str| {
        let out = bench.out(save);
        let set = format!("save=\"{save}\"");
        run_to(&bench, &out, &["--set", arms, "--set", &set, "--set", "save_dtype=\"bf16\""]);
        let mut kept: Vec<String> = fs::read_dir(out.join("models"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        kept.sort();
        assert!(stdout(&["report", out.to_str().unwrap()]).contains("verdict"));
        (kept, json(&out.join("results.json")))
    };
    let (all, _) = kept("all");
    assert_eq!(all, ["adapter", "adapter-adapter", "base", "gold", "sum"]);
    let model = bench.out("all/models/adapter");
    assert_eq!(Model::open(&model).unwrap().dtype(), amend_engine::DType::BF16);
    for (folder, library) in [("adapter", "transformers"), ("adapter-adapter", "peft")] {
        let card = fs::read_to_string(bench.out("all/models").join(folder).join("README.md")).unwrap();
        assert!(card.starts_with(&format!("---\nlibrary_name: {library}\n")), "{card}");
        for part in ["## What was done", "Before and after", "recipe.toml", "combine", "verdict"] {
            assert!(card.contains(part), "no {part:?} in {card}");
        }
        assert!(!card.contains(bench.folder.path().to_str().unwrap()), "no path of this machine: {card}");
    }

    let (none, results) = kept("none");
    assert!(none.is_empty(), "{none:?}");
    assert!(results["seeds"][0]["arms"][0]["model"].is_null());
    let (best, results) = kept("best");
    let arms = results["seeds"][0]["arms"].as_array().unwrap();
    let named: Vec<_> = arms.iter().filter_map(|arm| arm["model"].as_str()).collect();
    assert_eq!(named.len(), 1, "{best:?}");
    assert!(named[0].ends_with(&best[0]), "{named:?} {best:?}");
}

/// A run whose unlearning failed at a step, for want of a better learning rate.
fn diverged(bench: &Bench, out: &Path) {
    let sets = ["--set", "optimizer.lr=1e30", "--set", "optimizer.max_grad_norm=0"];
    let args = [&["run", &bench.recipe, "--out", out.to_str().unwrap()], &sets[..]].concat();
    let output = amend(&args).assert().code(2).get_output().clone();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("lower the learning rate"), "{message}");
    assert_eq!(status(out).as_deref(), Some("failed"));
}

#[test]
fn the_cause_of_a_failure_can_be_mended() {
    let bench = Bench::new();
    let (failed, whole) = (bench.out("failed"), bench.out("whole"));
    diverged(&bench, &failed);
    let arg = failed.to_str().unwrap();
    // What is done stays as it was done.
    fails(&["resume", arg, "--set", "eval.limit=2"], &["base-eval", "is done", "--set eval.limit=2"]);
    let two = ["resume", arg, "--set", "optimizer.lr=1e-3", "--set", "eval.limit=2"];
    let message = String::from_utf8(amend(&two).assert().code(2).get_output().stderr.clone()).unwrap();
    assert!(message.contains("--set eval.limit=2: ") && !message.contains("optimizer.lr"), "{message}");
    let other = "data.world.people=9";
    fails(&["resume", arg, "--set", "eval.limit=2", "--set", other], &["--set eval.limit=2: the stage"]);
    fails(
        &["resume", arg, "--set", other, "--set", "eval.limit=2"],
        &["--set data.world.people=9: another model"],
    );
    fails(&["resume", arg, "--set", other], &["other data"]);
    fails(&["resume", arg, "--set", "optimizer.rate=9"], &["optimizer.rate", "lr"]);
    let mended = ["--set", "optimizer.lr=1e-3", "--set", "optimizer.max_grad_norm=1.0"];
    let resumed = amend(&[&["resume", arg], &mended[..]].concat()).assert().get_output().clone();
    let message = String::from_utf8(resumed.stderr).unwrap();
    assert!(matches!(resumed.status.code(), Some(0 | 1)), "{message}");
    assert!(message.contains("ga-sago-unlearn"), "{message}");
    assert!(json(&failed.join("run.json"))["revised"][0]["set"][0] == "optimizer.lr=1e-3");
    assert!(fs::read_to_string(failed.join("report.html")).unwrap().contains("changed on the way"));

    run_to(&bench, &whole, &mended);
    let metrics = |dir: &Path| fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    assert!(metrics(&failed) == metrics(&whole), "as if it had never been otherwise");
}

#[test]
fn tables_and_curves_are_there_for_spreadsheets() {
    let bench = Bench::new();
    let out = bench.out("csv");
    run_to(&bench, &out, &[]);
    let table = fs::read_to_string(out.join("tables/before-and-after.csv")).unwrap();
    assert!(table.lines().next().unwrap().contains(",before"), "{table}");
    let curves = fs::read_dir(out.join("figures")).unwrap().filter(|entry| {
        entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "csv")
    });
    assert!(curves.count() > 2);
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("href=\"tables\"") && report.contains("href=\"figures\""));
}

/// Some records of a file are forgotten and the others kept, without anybody cutting it in two.
#[test]
fn a_choice_of_records_is_forgotten_and_the_rest_kept() {
    let scratch = Scratch::new();
    let facts = scratch.root.join("facts.jsonl");
    let line = |i: usize| {
        let author = if i < 3 { "Ann Lee" } else { "Bob" };
        format!("{{\"question\": \"Who is {i}?\", \"answer\": \"the {i}\", \"author\": \"{author}\"}}\n")
    };
    fs::write(&facts, (0..8).map(line).collect::<String>()).unwrap();
    let (model, facts) = (scratch.model.to_str().unwrap(), facts.to_str().unwrap());
    let recipe = scratch.root.join("forget.toml");
    let recipe = recipe.to_str().unwrap();
    let new = ["new", "unlearn", "--template", "lora", "--model", model, "--forget", facts];
    let chosen = |choice| [&new[..], &["--where", choice, "--out", recipe]].concat();
    fails(&chosen("author = \"Ann\""), &["no record has author", "Ann Lee, Bob"]);
    fails(&chosen("auther = \"Ann\""), &["auther", "author"]);
    amend(&chosen("author = \"Ann Lee\"")).assert().code(0);
    fails(&chosen("author = Bob"), &[recipe, "exists"]);
    let said = json_of(&["check", recipe, "--json"]);
    let sets: Vec<_> =
        said["forecast"]["sets"].as_array().unwrap().iter().map(|s| (&s["name"], &s["records"])).collect();
    assert_eq!(sets, [(&"to forget".into(), &3.into()), (&"to keep".into(), &5.into())]);
    fails(&["check", recipe, "--set", "data.forget.where=author ="], &["expected a value"]);
    // A file's name is short for a table with its path.
    let plain = scratch.root.join("plain.toml");
    let plain = plain.to_str().unwrap();
    let retain = ["--retain", facts, "--out", plain];
    amend(&[&new[..], &retain].concat()).assert().code(0);
    let said = json_of(&["check", plain, "--set", "data.forget.where=record <= 2", "--json"]);
    assert_eq!(said["forecast"]["sets"][0]["records"], 2);
    let text = fs::read_to_string(recipe).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("where = ")).unwrap();
    fs::write(recipe, text.replace("author", "auther")).unwrap();
    fails(
        &["check", recipe],
        &["data.forget.where", "`auther`; the nearest is `author`", &format!("{recipe}:{line}:")],
    );
    // Of all of them none would be left to keep.
    let all = [&new[..], &["--where", "answer != nobody"]].concat();
    fails(&all, &["every record", "--retain"]);
}
