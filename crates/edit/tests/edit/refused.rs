//! What cannot be done is refused by name, before anything is computed.

use crate::support::attempt;

fn refused(sets: &[&str]) -> String {
    let (outcome, folder) = attempt(sets);
    let error = outcome.err().unwrap_or_else(|| panic!("{sets:?} ran")).to_string();
    assert!(!folder.path().join("run/models").exists(), "{sets:?}: a model was trained first");
    error
}

/// A recipe on files in a folder of their own.
fn with_edits(edits: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let (file, facts) = (scratch.path().join("edits.jsonl"), scratch.path().join("facts.jsonl"));
    std::fs::write(&file, edits).unwrap();
    std::fs::write(&facts, "{\"question\": \"Where does Ann Lee live?\", \"answer\": \"In Oslo.\"}\n")
        .unwrap();
    let (file, facts) = (file.display(), facts.display());
    refused(&[&format!("data={{ edits = \"{file}\", learn = \"{facts}\" }}")])
}

#[test]
fn edits_that_cannot_be_asked_for_are_named() {
    let lacking = with_edits(r#"{"subject": "Ann Lee", "prompt": "She lives in", "target_new": "Rome"}"#);
    assert!(lacking.contains("edits.jsonl: record 1: the subject \"Ann Lee\" does not occur"), "{lacking}");
    let fine = r#"{"subject": "Ann Lee", "prompt": "{} lives in", "target_new": "Rome"}"#;
    let second = with_edits(&format!("{fine}\n{{\"subject\": \"Bo\", \"prompt\": \"{{}} is\"}}"));
    assert!(second.contains("record 2: it has no `target_new`"), "{second}");
    // The tokenizer of these facts makes one token of a name and what is glued to it.
    let glued = with_edits(r#"{"subject": "Le", "prompt": "Where does Ann {}e", "target_new": "Rome"}"#);
    assert!(glued.contains("edit 0: the tokenizer makes one token, \" Lee\","), "{glued}");
    let long = format!(
        r#"{{"subject": "Ann", "prompt": "{} {{}} is", "target_new": "Rome"}}"#,
        "on and on ".repeat(60)
    );
    assert!(with_edits(&long).contains("and the model reads 64"));
}

#[test]
fn layers_that_there_are_not_are_named() {
    for editor in [
        "{ name = \"rome\", layer = 3 }",
        "{ name = \"memit\", layers = [1, 3] }",
        "{ name = \"alpha-edit\", layers = [3] }",
        "{ name = \"ft-l\", layer = 3 }",
    ] {
        let error = refused(&[&format!("edit.editor={editor}")]);
        assert!(error.contains("the model has no layer 3; it has 3, counted from 0"), "{editor}: {error}");
    }
}

#[test]
fn recipes_whose_parts_do_not_go_together_are_refused() {
    for (set, part) in [
        ("model={}", "`path` is missing"),
        ("model.path=\"m\"", "not both"),
        ("data={}", "learns from `learn` or from `world`"),
        ("data.learn=\"x.jsonl\"", "give one of the two"),
        ("data.edits=\"x.jsonl\"", "a `world` brings its own"),
    ] {
        let error = refused(&[set]);
        assert!(error.contains(part), "{set}: {error}");
    }
    let error = refused(&["model={ path = \"m\" }", "data={ edits = \"e.jsonl\" }"]);
    assert!(error.contains("`rome` asks what keys look like") && error.contains("`text`"), "{error}");
}
