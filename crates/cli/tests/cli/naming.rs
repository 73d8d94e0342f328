//! Forgetting by name: the records are what the model itself says.

use serde_json::{Value, json};

use crate::support::{Scratch, fails, json_of};

fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_entity_becomes_a_recipe_with_what_the_model_says() {
    let scratch = Scratch::new();
    let (model, out) = (scratch.model.to_str().unwrap(), scratch.root.join("ann.toml"));
    let new = ["new", "unlearn", "--template", "lora", "--model", model, "--entity", "Ann Lee"];
    let out = out.to_str().unwrap();
    let told = json_of(&[&new[..], &["--neighbour", "Joan Ray", "--out", out, "--json"]].concat());
    assert_eq!((&told["to_fill_in"], &told["entity"]["neighbours"]), (&json!([]), &json!(["Joan Ray"])));
    for (set, name) in [("forget", "Ann Lee"), ("retain", "Joan Ray")] {
        let records = lines(told["entity"][set]["file"].as_str().unwrap());
        assert_eq!(told["entity"][set]["records"], records.len());
        assert!(records.len() > 8, "{records:?}");
        assert!(
            records.iter().all(|r| r["entity"] == name && r["question"].as_str().unwrap().contains(name))
        );
        assert!(records.iter().all(|r| !r["answer"].as_str().unwrap().is_empty()));
    }
    // This model's context has no room for an answer about a longer name.
    assert!(
        told["entity"]["lift"]["value"].is_null() && told["entity"]["difference"]["n"].is_null(),
        "{told}"
    );
    let checked = json_of(&["check", out, "--json"]);
    assert_eq!(checked["forecast"]["sets"][0]["records"], told["entity"]["forget"]["records"]);

    // The same again says the same; nothing is written over.
    let again = scratch.root.join("again.toml");
    let again = again.to_str().unwrap();
    let more = ["--neighbour", "Joan Ray", "--out", again, "--json"];
    let second = json_of(&[&new[..], &more].concat());
    let file = |told: &Value| lines(told["entity"]["forget"]["file"].as_str().unwrap());
    assert_eq!(file(&told), file(&second));
    let more = &more[..4];
    fails(&[&new[..], more].concat(), &["again.toml exists", "--out"]);
    std::fs::remove_file(again).unwrap();
    fails(&[&new[..], more].concat(), &["again-forget.jsonl exists", "--out"]);
}

#[test]
fn what_an_entity_needs_is_said_before_the_model_is_asked() {
    let scratch = Scratch::new();
    let (model, out) = (scratch.model.to_str().unwrap(), scratch.root.join("r.toml"));
    let out = out.to_str().unwrap();
    let new = ["new", "unlearn", "--model", model, "--entity"];
    fails(&[&new[..], &["Ann Lee"]].concat(), &["--out"]);
    fails(&[&new[..], &["Ann Lee", "--out", out, "--forget", "a.jsonl"]].concat(), &["--forget"]);
    fails(&[&new[..], &[" ", "--out", out]].concat(), &["a name is empty"]);
    let same = ["Ann Lee", "--neighbour", "ann lee", "--out", out];
    fails(&[&new[..], &same].concat(), &["--neighbour ann lee", "to be forgotten"]);
    let edit = ["new", "edit", "--model", model, "--entity", "Ann Lee", "--out", out];
    fails(&edit, &["--entity", "recipes of edit have no `data.forget`"]);
    assert!(!scratch.root.join("r.toml").exists());
}
