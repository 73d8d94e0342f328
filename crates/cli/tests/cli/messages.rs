//! What commands say on standard error: nothing with `-q`, in whole lines with `-v`.

use crate::support::{Scratch, amend};

/// Commands that do something, each with the model's folder and that of its files as arguments.
fn commands(scratch: &Scratch) -> Vec<Vec<String>> {
    let texts = scratch.file("texts.txt", "the cat\nthe mat\n");
    let model = scratch.arg();
    let lines = [
        format!("score {model} --text-file {texts}"),
        format!("score {model} --ids 1,2,3"),
        format!("generate {model} --prompt-file {texts} --samples 2 --seed 3 --max-new-tokens 3"),
        format!("generate {model} --prompt the --max-new-tokens 3 --json"),
        format!("convert {model} {}", scratch.root.join("m.gguf").display()),
        "methods".into(),
        "doctor".into(),
        "new unlearn".into(),
        "schema npo".into(),
        format!("runs {}", scratch.root.display()),
    ];
    lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn told(command: &[String], more: &[&str]) -> String {
    let args: Vec<&str> = command.iter().map(String::as_str).chain(more.iter().copied()).collect();
    String::from_utf8(amend(&args).assert().code(0).get_output().stderr.clone()).unwrap()
}

#[test]
fn quiet_is_quiet() {
    let scratch = Scratch::new();
    let commands = commands(&scratch);
    for command in &commands {
        assert_eq!(told(command, &["-q"]), "", "{command:?}");
    }
    // Something that the engine warns of: layers too many.
    let config = scratch.model.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1")).unwrap();
    let warning = told(&commands[1], &[]);
    assert!(warning.starts_with("warning: ") && warning.contains("tensors are not used"), "{warning}");
    assert_eq!(told(&commands[1], &["-q"]), "");
}

#[test]
fn verbose_says_what_is_done_in_whole_lines() {
    let scratch = Scratch::new();
    let score = &commands(&scratch)[0];
    let silent = told(score, &[]);
    let (once, twice) = (told(score, &["-v"]), told(score, &["-vv"]));
    for part in [
        ", computing on the processor with ",
        "model: llama of ",
        " parameters, stored as f32",
        "tokenizer of ",
        "without a chat template",
        "products are computed in f32, weights kept for them in f32",
    ] {
        assert!(once.contains(part) && !silent.contains(part), "no {part:?} in {once}");
    }
    assert!(once.lines().filter(|line| line.starts_with("info: ")).count() == 4, "{once}");
    assert!(!once.contains("debug: ") && twice.contains("debug: ") && twice.contains(" tensors"), "{twice}");
    assert!(!once.contains('\u{1b}') && !twice.contains("amend_"), "{twice}");
}
