//! What shells offer, asked for as their scripts do.

use std::fs;
use std::path::Path;

use crate::support::{Scratch, amend, stdout};

/// What is offered for the last of the words, in a folder.
fn offered(folder: &Path, words: &[&str]) -> Vec<String> {
    let args = [&["--", "amend"], words].concat();
    let output =
        amend(&args).env("AMEND_COMPLETE", "bash").current_dir(folder).assert().code(0).get_output().clone();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A folder that holds a run in this state.
fn run_folder(dir: &Path, status: &str) {
    fs::create_dir_all(dir).unwrap();
    let state = serde_json::json!({
        "version": "0.1.0", "commit": "0", "seed": 0, "command": [], "recipe_folder": "/", "model": {}, "data": {},
        "machine": amend_run::machine::Machine::detect(), "status": status, "started": "2026-03-01T12:00:00Z",
        "finished": null,
    });
    fs::write(dir.join("run.json"), state.to_string()).unwrap();
}

#[test]
fn names_are_offered() {
    let here = Path::new(".");
    assert!(offered(here, &["methods", ""]).contains(&"npo".to_owned()));
    assert!(offered(here, &["methods", "forg"]).contains(&"forget".to_owned()));
    assert_eq!(offered(here, &["methods", "sag"]), ["sago"]);
    assert_eq!(offered(here, &["new", ""]), ["unlearn", "edit"]);
    assert_eq!(offered(here, &["new", "unlearn", "--template", "l"]), ["lora"]);
    assert!(offered(here, &["run", "r.toml", "--set", "optimizer.l"]).contains(&"optimizer.lr=".to_owned()));
    assert_eq!(offered(here, &["check", "r.toml", "--set", "unlearn.combine=sa"]), ["unlearn.combine=sago"]);
    let of_attack = |typed| offered(here, &["attack", "m", "--set", typed]);
    assert_eq!(of_attack("unlearn.attack"), ["unlearn.attack="]);
    assert_eq!(of_attack("unlearn.attack.1.optimizer.l"), ["unlearn.attack.1.optimizer.lr="]);
    assert_eq!(of_attack("unlearn.attack.0.name=rel"), ["unlearn.attack.0.name=relearn"]);
    assert!(offered(here, &["schema", "un"]).contains(&"unlearn".to_owned()));
    assert_eq!(
        offered(here, &["eval", "--task", ""]),
        ["counterfact", "records", "tofu", "truthfulqa", "wikitext", "zsre"]
    );
    assert!(offered(here, &["eval", "--task", "tofu", "--set", "spl"]).contains(&"split=".to_owned()));
    assert_eq!(
        offered(here, &["eval", "--task", "tofu", "--set", "split="]),
        ["split=forget01", "split=forget05", "split=forget10"]
    );
    assert!(offered(here, &["eval", "--task", "wikitext", "--set", "split="]).is_empty());
    assert_eq!(offered(here, &["score", "m", "--dtype=b"]), ["--dtype=bf16"]);
    // Flags where they are asked for, and where there is nothing else.
    assert!(offered(here, &["methods", "-"]).contains(&"--markdown".to_owned()));
    assert!(offered(here, &["doctor", ""]).contains(&"--json".to_owned()));
}

#[test]
fn runs_and_models_are_offered() {
    let scratch = Scratch::new();
    scratch.file("small.gguf", "");
    scratch.file("notes.txt", "");
    for (name, status) in [("done", "done"), ("stopped", "interrupted")] {
        run_folder(&scratch.root.join("runs").join(name), status);
    }
    fs::create_dir(scratch.root.join("runs/no-run")).unwrap();
    let root = &scratch.root;
    assert_eq!(offered(root, &["resume", ""]), ["runs/stopped"]);
    assert_eq!(offered(root, &["report", ""]), ["runs/done", "runs/stopped"]);
    assert_eq!(offered(root, &["report", "runs/d"]), ["runs/done/"]);
    for command in [&["score"][..], &["generate"], &["chat"], &["embed"], &["convert"], &["eval", "--model"]]
    {
        assert_eq!(offered(root, &[command, &["mod"]].concat()), ["model/"], "{command:?}");
        assert_eq!(offered(root, &[command, &["small"]].concat()), ["small.gguf"], "{command:?}");
        assert!(offered(root, &[command, &["note"]].concat()).is_empty(), "{command:?}");
    }
}

/// Bash takes words apart at `=`, which its script has to mend.
#[cfg(target_os = "linux")]
#[test]
fn bash_completes_what_stands_behind_an_equals_sign() {
    let script = stdout(&["completions", "bash"]);
    let complete = |words: &[&str]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let last = words.last().filter(|word| **word != "=").unwrap_or(&"");
        let program = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _amend amend '{last}' x 2> /dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len() - 1,
        );
        let output = std::process::Command::new("bash").args(["-c", &program]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["amend", "sco"]), ["score"]);
    let set = ["amend", "eval", "--task", "tofu", "--set"];
    assert_eq!(complete(&[&set[..], &["spli"]].concat()), ["split="]);
    assert_eq!(complete(&[&set[..], &["split", "="]].concat()), ["forget01", "forget05", "forget10"]);
    assert_eq!(complete(&[&set[..], &["split", "=", "forget1"]].concat()), ["forget10"]);
    assert_eq!(complete(&["amend", "score", "m", "--dtype", "="]), ["f32", "bf16"]);
    assert_eq!(complete(&["amend", "score", "m", "--dtype", "=", "b"]), ["bf16"]);
    assert_eq!(complete(&["amend", "score", "my\\ m", "--dtype", "=", "b"]), ["bf16"], "an escaped space");
}
