//! Edits that are interrupted end with the bits of those that ran through.

use std::path::Path;

use amend_learn::Error;
use amend_run::{Program, RunError, RunFolder, Silent, Stop, StopAt};

use crate::support::{EDITORS, carry_out, create, recipe};

fn computed(dir: &Path, files: &[&str]) -> Vec<Vec<u8>> {
    files.iter().map(|file| std::fs::read(dir.join(file)).unwrap()).collect()
}

/// AlphaEdit carries a memory besides the weights; alone, the samples are what is carried.
#[test]
fn a_run_interrupted_in_every_stage_ends_with_the_same_bits() {
    let editor = format!("edit.editor={}", EDITORS[2]);
    let cases: [(&[&str], &[&str]); 2] = [
        (&[&editor], &["model/model.safetensors", "metrics.jsonl", "answers/after/samples.jsonl"]),
        (&[&editor, "edit.restore=true"], &["metrics.jsonl", "answers/after/samples.jsonl"]),
    ];
    for (sets, files) in cases {
        let loaded = recipe(sets);
        let scratch = tempfile::tempdir().unwrap();
        let (whole, cut) = (scratch.path().join("whole"), scratch.path().join("cut"));
        let through = carry_out(create(&whole, &loaded), &loaded, &Silent, Stop::default()).unwrap();
        drop(create(&cut, &loaded));
        let open = || RunFolder::open(&cut, Program::default()).unwrap();
        for (stage, step) in [("base", 3), ("trace", 1), ("edit", 1), ("edit", 3)] {
            let stop = Stop::default();
            let ended = carry_out(open(), &loaded, &StopAt::new(stage, step, &stop), stop.clone());
            let interrupted = matches!(ended, Err(Error::Run(RunError::Interrupted)));
            assert!(interrupted, "{stage} was not interrupted after step {step}: {:?}", ended.err());
        }
        let resumed = carry_out(open(), &loaded, &Silent, Stop::default()).unwrap();
        assert!(computed(&whole, files) == computed(&cut, files), "{sets:?}");
        let figures = |outcome: &amend_edit::Outcome, dir: &Path| {
            serde_json::to_string(outcome).unwrap().replace(dir.to_str().unwrap(), "")
        };
        assert_eq!(figures(&through, &whole), figures(&resumed, &cut));
    }
}
