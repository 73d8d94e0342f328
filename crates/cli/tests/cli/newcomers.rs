//! Recipes that the program writes for whoever begins.

use crate::support::{Scratch, amend, fails, json_of, stdout};

#[test]
fn every_template_is_a_recipe_and_can_be_filled_in() {
    let scratch = Scratch::new();
    let model = scratch.model.to_str().unwrap();
    for template in ["plain", "lora", "compare", "tofu", "attack"] {
        let text = stdout(&["new", "unlearn", "--template", template]);
        assert!(text.starts_with("# ") && text.contains("amend check"), "{text}");
        let filled = stdout(&["new", "unlearn", "--template", template, "--model", model]);
        assert!(filled.contains(&format!("path = \"{model}\"")), "{filled}");
        // The comments stay.
        let comments = |text: &str| text.matches('#').count();
        assert_eq!(comments(&text), comments(&filled));
    }
    // An offer that is taken is none any more.
    let gold = stdout(&["new", "unlearn", "--gold", model]);
    assert!(gold.contains(&format!("\ngold = \"{model}\"")) && !gold.contains("# gold ="), "{gold}");
    // What only the user knows is asked for.
    let out = scratch.root.join("r.toml");
    let told = json_of(&["new", "unlearn", "--model", model, "--out", out.to_str().unwrap(), "--json"]);
    assert_eq!(told["to_fill_in"], serde_json::json!(["data.forget", "data.retain"]));
    fails(&["new", "unlearn", "--template", "lorra"], &["lorra", "did you mean lora", "compare"]);
    fails(&["new", "unlearn", "--model", "nowhere"], &["nowhere"]);
}

#[test]
fn a_path_means_the_same_in_the_recipe_as_on_the_command_line() {
    let scratch = Scratch::new();
    let (here, there) = (scratch.root.join("here"), scratch.root.join("there"));
    for folder in [&here, &there] {
        std::fs::create_dir(folder).unwrap();
    }
    let facts = "{\"question\": \"Who?\", \"answer\": \"the one\"}\n".repeat(4);
    std::fs::write(here.join("a.jsonl"), &facts).unwrap();
    std::fs::write(here.join("b.jsonl"), facts.replace("Who", "What")).unwrap();
    let model = scratch.model.to_str().unwrap();
    for (out, from) in [("near.toml", &here), ("../there/far.toml", &there)] {
        let args =
            ["new", "unlearn", "--model", model, "--forget", "a.jsonl", "--retain", "b.jsonl", "--out", out];
        amend(&args).current_dir(&here).assert().code(0);
        let recipe = from.join(out.rsplit('/').next().unwrap());
        let said = json_of(&["check", recipe.to_str().unwrap(), "--json"]);
        assert_eq!(said["forecast"]["sets"][0]["records"], 4);
    }
}

/// A model, facts that it might have forgotten, and a model that never knew them.
fn attack_on(scratch: &Scratch, more: &[&str]) -> assert_cmd::assert::Assert {
    let facts = scratch.root.join("facts.jsonl");
    let line = |i: usize| format!("{{\"question\": \"Who is {i}?\", \"answer\": \"the {i}\"}}\n");
    std::fs::write(&facts, (0..6).map(line).collect::<String>()).unwrap();
    let out = scratch.root.join("attacked");
    let args = ["attack", scratch.model.to_str().unwrap(), "--forget", facts.to_str().unwrap(), "--json"];
    let small = "unlearn.attack=[{ name = \"relearn\", steps = 2, batch_size = 2, every = 1 }]";
    let how =
        ["--out", out.to_str().unwrap(), "--overwrite", "--set", "eval.max_new_tokens=4", "--set", small];
    amend(&[&args[..], &how, more].concat()).current_dir(&scratch.root).assert()
}

#[test]
fn a_model_that_forgot_elsewhere_is_attacked_as_it_is() {
    let scratch = Scratch::new();
    let model = scratch.model.to_str().unwrap();
    let weights = || std::fs::read(scratch.model.join("model.safetensors")).unwrap();
    let before = weights();
    let result = |output: &[u8]| serde_json::from_slice::<serde_json::Value>(output).unwrap();

    let alone = result(&attack_on(&scratch, &[]).code(0).get_output().stdout);
    assert!(alone["passed"].is_null(), "nothing was asked for");
    let arm = &alone["results"]["arms"][0];
    assert!(arm["claims"].as_array().unwrap().is_empty(), "{arm}");
    let page = std::fs::read_to_string(scratch.root.join("attacked/report.html")).unwrap();
    assert!(page.contains("Attack: relearn") && page.contains("as it is"));
    for misleading in
        ["There was nothing to", "Before and after", "While forgetting", "never known", "What changed"]
    {
        assert!(!page.contains(misleading), "{misleading}");
    }
    let told = stdout(&["report", scratch.root.join("attacked").to_str().unwrap()]);
    assert!(told.contains("nothing was asked for"), "{told}");

    // A model withstands what one that never knew gives away as well.
    let other = scratch.other_model();
    let strong = ["--gold", other.to_str().unwrap(), "--set", STRONG];
    let gold = result(&attack_on(&scratch, &strong).code(0).get_output().stdout);
    assert_eq!(gold["passed"], true, "{}", gold["results"]["arms"][0]);
    assert_eq!(gold["results"]["arms"][0]["claims"][0]["name"], "withstands relearn");
    assert!(!scratch.root.join("attacked/model").exists() && !scratch.root.join("attacked/models").exists());
    assert!(
        weights() == before && !scratch.model.join("README.md").exists(),
        "a user's model stays as it is"
    );
    attack_on(&scratch, &["--where", "answer = nobody"]).code(2);

    // There is no recipe that the user could look into.
    for (more, said) in [
        (["--gold", "nowhere"], "--gold: nowhere"),
        (["--gold", model], "--gold is the model itself"),
        (["--retain", "none.jsonl"], "--retain: none.jsonl"),
        (["--where", "who = nobody"], "\"--where: "),
        (["--set", "optimizer.lr=-1"], "--set"),
    ] {
        let output = attack_on(&scratch, &more).code(2).get_output().clone();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(said) && !told.contains("attack.toml"), "{told}");
    }
}

/// An attacker that learns what it is given.
const STRONG: &str =
    "unlearn.attack=[{ name = \"relearn\", steps = 40, batch_size = 3, every = 40, optimizer.lr = 1e-2 }]";

/// An attacker that learns nothing brings nothing back, which was taken for a model that withstands.
#[test]
fn a_weak_attack_is_called_one_and_shows_nothing() {
    let scratch = Scratch::new();
    let other = scratch.other_model();
    let weak = STRONG.replace("1e-2", "1e-9");
    let attack = ["--gold", other.to_str().unwrap(), "--set", &weak];
    let output = attack_on(&scratch, &attack).code(1).get_output().clone();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let premises = result["results"]["premises"].to_string();
    assert!(premises.contains("was weak: ") && premises.contains("learning rate"), "{premises}");
    let claim = &result["results"]["arms"][0]["claims"][0];
    assert!(claim["pass"].is_null() && claim["answer"] == "not shown, the attack was weak", "{claim}");
}
