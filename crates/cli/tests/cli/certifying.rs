//! Certificates.

use std::fs;

use serde_json::Value;

use crate::runs::{Bench, run_to};
use crate::support::{amend, fails, json_of};

const ATTACKED: &str = "unlearn.attack=[{ name = \"relearn\", steps = 2, batch_size = 2, every = 1 }]";

/// What a check says, with its exit code.
fn checked(file: &str, more: &[&str]) -> (Value, i32) {
    let output =
        amend(&[&["certify", "--json", "--check", file], more].concat()).assert().get_output().clone();
    let told = String::from_utf8(output.stderr).unwrap();
    (
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}")),
        output.status.code().unwrap(),
    )
}

fn found(said: &Value) -> Vec<(&str, bool)> {
    let lines = said["checked"].as_array().unwrap().iter();
    lines.map(|line| (line["found"].as_str().unwrap(), line["holds"].as_bool().unwrap())).collect()
}

#[test]
fn what_was_certified_is_measured_again_to_the_bit() {
    let bench = Bench::new();
    let out = bench.out("run");
    let arms = "compare=[{ combine = \"sum\" }, { where = \"lora\" }]";
    run_to(&bench, &out, &["--set", ATTACKED, "--set", arms, "--seeds", "3,1"]);
    let told = json_of(&["certify", out.to_str().unwrap(), "--json"]);
    let file = told["certificate"].as_str().unwrap();
    let text = fs::read_to_string(file).unwrap();
    let certificate: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(certificate["figures"].as_array().unwrap().len(), 2);
    assert!(certificate["figures"][1]["arms"][1]["attacks"]["relearn"]["curves"].as_array().is_some());
    // No question, no answer.
    for name in ["base", "gold", "sum", "lora"] {
        let answers = fs::read_to_string(out.join(format!("answers/seed3-{name}-eval.jsonl"))).unwrap();
        for row in answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let said = ["question", "expected"].map(|key| row[key].as_str().unwrap().to_owned());
            assert!(said.iter().all(|said| said.is_empty() || !text.contains(said)), "{said:?}");
        }
    }

    let (said, code) = checked(file, &[]);
    assert_eq!(code, 0, "{said}");
    let lines = found(&said);
    assert_eq!(lines.iter().filter(|line| **line == ("the same, every number", true)).count(), 2, "{said}");
    assert!(lines.iter().filter(|line| **line == ("unchanged", true)).count() >= 8, "{said}");
}

#[test]
fn what_was_changed_since_is_found() {
    let bench = Bench::new();
    let out = bench.out("run");
    run_to(&bench, &out, &["--set", ATTACKED]);
    let file = bench.out("certificate.json");
    let arg = file.to_str().unwrap();
    json_of(&["certify", out.to_str().unwrap(), "--out", arg, "--json"]);
    // A figure that was made up.
    let text = fs::read_to_string(&file).unwrap();
    let mut forged: Value = serde_json::from_str(&text).unwrap();
    forged["figures"][0]["arms"][0]["after"]["retain"]["probability"]["value"] = 0.987.into();
    fs::write(&file, forged.to_string()).unwrap();
    let (said, code) = checked(arg, &[]);
    let told = said.to_string();
    assert!(code == 1 && told.contains("arms.0.after.retain.probability.value: 0.987 before"), "{told}");
    assert_eq!(checked(arg, &["--hashes"]).1, 0, "hashes alone do not show it");
    // A claim that was made up, a seed that was left out, and another recipe than the one that is measured again.
    let forged = |change: fn(&mut Value)| {
        let mut forged: Value = serde_json::from_str(&text).unwrap();
        change(&mut forged);
        fs::write(&file, forged.to_string()).unwrap();
        let (said, code) = checked(arg, &[]);
        assert_eq!(code, 1, "{said}");
        said.to_string()
    };
    let told = forged(|certificate| certificate["claims"][0]["claims"][0]["pass"] = true.into());
    assert!(told.contains("claims.0.claims.0.pass: true before, false now"), "{told}");
    assert!(forged(|certificate| certificate["again"] = Value::Array(Vec::new())).contains("0 recipes"));
    let told = forged(|certificate| {
        let recipe = certificate["recipe"].as_str().unwrap().replace("share = 0.95", "share = 0.5");
        certificate["recipe"] = recipe.into();
    });
    assert!(told.contains("differs from the recipe's"), "{told}");
    // A model that is no longer the one.
    fs::write(&file, &text).unwrap();
    fs::write(out.join("model/extra.txt"), "x").unwrap();
    let (said, code) = checked(arg, &["--hashes"]);
    assert_eq!((code, found(&said).contains(&("changed", false))), (1, true), "{said}");
    fs::remove_dir_all(out.join("model")).unwrap();
    let (said, code) = checked(arg, &[]);
    assert_eq!((code, found(&said).contains(&("missing", false))), (1, true), "{said}");
    fails(&["certify", "--check", &bench.recipe], &["no certificate"]);
    fails(&["certify", bench.folder.path().to_str().unwrap()], &["run"]);
    // Without models there is nothing to certify.
    let none = bench.out("none");
    run_to(&bench, &none, &["--set", "save=none"]);
    fails(&["certify", none.to_str().unwrap()], &["kept no model", "save ="]);
}

/// The recipe lay elsewhere, and its paths were taken for those of the certificate.
#[test]
fn a_run_is_certified_from_wherever_it_is_looked_at() {
    let bench = Bench::new();
    let recipes = bench.out("recipes");
    fs::create_dir(&recipes).unwrap();
    fs::rename(&bench.recipe, recipes.join("tiny.toml")).unwrap();
    let here = |args: &[&str]| amend(args).current_dir(bench.folder.path()).assert();
    here(&["run", "recipes/tiny.toml", "--out", "run", "--set", ATTACKED]);
    // A copy is certified by its own models.
    let copied = std::process::Command::new("cp")
        .args(["-r", "run", "copy"])
        .current_dir(bench.folder.path())
        .status();
    assert!(copied.unwrap().success());
    fs::remove_dir_all(bench.out("run")).unwrap();
    here(&["certify", "copy"]).code(0);
    here(&["certify", "--check", "copy/certificate.json"]).code(0);
    assert!(!bench.out("copy/certificate.json.check").exists(), "nothing is left of the check");
    // What the run did is no longer what stands there.
    let recipe = bench.out("copy/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("max_steps = 4", "max_steps = 5")).unwrap();
    fails(
        &["certify", bench.out("copy").to_str().unwrap()],
        &["recipe.toml is no longer what the run worked with"],
    );
}
