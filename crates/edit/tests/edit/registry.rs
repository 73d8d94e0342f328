//! Every editor is documented, runs, and makes a difference; the report shows what a run found.

use amend_edit::editor::Editing;
use amend_run::step_log::METRICS;
use amend_run::{StepLog, missing_headings};

use crate::support::{EDITORS, run};

#[test]
fn every_editor_is_documented_and_tried() {
    for method in amend_edit::methods() {
        let missing = missing_headings(&method.doc());
        assert!(missing.is_empty(), "{} lacks {missing:?}", method.name());
        let tried = EDITORS.iter().any(|editor| editor.contains(&format!("\"{}\"", method.name())));
        assert!(tried, "{} is in no test", method.name());
    }
    assert_eq!(Editing::METHODS.len(), EDITORS.len());
}

#[test]
fn every_editor_changes_its_layers_and_each_otherwise() {
    let mut written = Vec::new();
    for editor in EDITORS {
        let (outcome, folder) = run(&[&format!("edit.editor={editor}")]);
        let changed: Vec<&str> =
            outcome.changes.iter().filter(|c| c.change > 0.0).map(|c| c.name.as_str()).collect();
        let expected: Vec<String> =
            outcome.layers.iter().map(|layer| format!("model.layers.{layer}.mlp.down_proj.weight")).collect();
        assert_eq!(changed.len(), expected.len(), "{editor}: {changed:?}");
        assert!(expected.iter().all(|name| changed.contains(&name.as_str())), "{editor}: {changed:?}");
        assert_eq!((outcome.edits, outcome.passed), (5, None));
        assert_eq!(outcome.before.figure("locality").unwrap().value, 1.0);
        for name in ["efficacy", "generalisation", "locality", "forced_efficacy", "forced_locality"] {
            assert_eq!(outcome.after.figure(name).unwrap().n, 5, "{editor} {name}");
        }
        let rows = StepLog::read(&folder.path().join("run"), METRICS).unwrap();
        let rows: Vec<_> = rows.iter().filter(|row| row.stage == "edit").collect();
        assert_eq!(rows.len(), 5);
        let docs = amend_edit::methods().map(|method| method.doc()).collect::<String>();
        for key in rows[0].values.keys().filter(|key| !["edits", "watched"].contains(&key.as_str())) {
            assert!(
                key.starts_with("first_") || docs.contains(&format!("`{key}`")),
                "no method explains {key}"
            );
        }
        // Looked at after the first batch, after every second, and at the end.
        let looks = |row: &&&amend_run::step_log::StepRow| row.values.contains_key("first_efficacy");
        assert_eq!(rows.iter().filter(looks).map(|row| row.step).collect::<Vec<_>>(), [1, 2, 4, 5]);
        written.push(std::fs::read(outcome.model.unwrap().join("model.safetensors")).unwrap());
    }
    for (i, one) in written.iter().enumerate() {
        assert!(written[..i].iter().all(|other| other != one), "{} does what another does", EDITORS[i]);
    }
}

/// The numbers of an edit alone do not depend on those before it.
#[test]
fn restored_weights_forget_earlier_edits() {
    let (alone, folder) = run(&["edit.restore=true"]);
    assert!(alone.model.is_none() && alone.changes.is_empty());
    assert!(!folder.path().join("run/model").exists());
    let (single, of_one) = run(&["edit.restore=true", "data.limit=1"]);
    let line = |folder: &tempfile::TempDir, number: usize| {
        let text = std::fs::read_to_string(folder.path().join("run/answers/after/samples.jsonl")).unwrap();
        text.lines().nth(number).unwrap().to_owned()
    };
    assert_eq!(line(&folder, 0), line(&of_one, 0));
    assert_eq!(single.edits, 1);
    let (_, one_after_the_other) = run(&[]);
    assert_ne!(line(&folder, 4), line(&one_after_the_other, 4));
}

#[test]
fn without_a_layer_tracing_finds_one() {
    let (outcome, folder) = run(&["edit.editor={ name = \"memit\", lambda = 10.0, target = { steps = 2 } }"]);
    let traced = outcome.traced.as_ref().unwrap();
    assert_eq!(outcome.layers, (0..=traced.layer).collect::<Vec<_>>(), "up to the one that was found");
    assert_eq!(traced.maps.len(), 3);
    assert_eq!(traced.maps[0].layers.len(), 3);
    let report = amend_edit::report(&outcome, &folder.path().join("run")).unwrap();
    let page = report.to_html();
    for part in [
        "Where the facts are",
        "subject, last token",
        "color-mix",
        "What the first 2 edits are worth",
        "running free",
        "What changed",
        "in other words",
    ] {
        assert!(page.contains(part), "no {part:?} in the report");
    }
    let text = report.to_terminal(100);
    assert!(text.contains("efficacy, running free") && text.contains("n = 5"), "{text}");
}

#[test]
fn what_is_required_decides() {
    let (outcome, _folder) = run(&["require={ locality = 0.0, efficacy = 0.0 }"]);
    assert_eq!(outcome.passed, Some(true));
    let (outcome, _folder) =
        run(&["require.efficacy=1.0", "edit.editor={ name = \"ft-l\", layer = 1, steps = 1 }"]);
    assert_eq!(outcome.passed, Some(false));
    // A figure that was not measured is not reached.
    let (outcome, _folder) = run(&["require.efficacy=0.0", "eval.max_new_tokens=0"]);
    assert_eq!(outcome.passed, Some(false));
}

/// Batches of all sizes run; a batch of all is one edit of many facts.
#[test]
fn facts_are_written_together_where_a_batch_says_so() {
    for editor in EDITORS {
        let (outcome, folder) = run(&[&format!("edit.editor={editor}"), "edit.batch_size=3"]);
        let rows = StepLog::read(&folder.path().join("run"), METRICS).unwrap();
        let edits: Vec<_> = rows
            .iter()
            .filter(|row| row.stage == "edit")
            .map(|row| row.values["edits"].as_u64().unwrap())
            .collect();
        assert_eq!(edits, [3, 5], "{editor}");
        assert!(outcome.changes.iter().any(|change| change.change > 0.0));
    }
}
