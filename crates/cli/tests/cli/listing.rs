//! Commands that tell what there is.

use crate::support::{amend, fails, json_of, stdout};

#[test]
fn methods_are_listed_and_explained() {
    let list = stdout(&["methods"]);
    for part in ["unlearn", "forget", "npo", "combine", "sago"] {
        assert!(list.contains(part), "no {part} in: {list}");
    }
    let page = stdout(&["methods", "npo"]);
    for part in ["What it does", "Source", "beta", "0.1", "forget = \"npo\""] {
        assert!(page.contains(part), "no {part} in: {page}");
    }
    assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
    // What the page says of a recipe can be written in one.
    assert!(stdout(&["methods", "relearn"]).contains("attack = [\"relearn\"]"));
    let all = json_of(&["methods", "--json"]);
    let all = all.as_array().unwrap();
    assert!(all.iter().all(|m| m["summary"].as_str().is_some_and(|s| s.len() > 10)));
    // Every method of the list can be asked for by its full name.
    for method in all {
        let name = [&method["area"], &method["slot"], &method["name"]].map(|v| v.as_str().unwrap()).join("/");
        let one = json_of(&["methods", &name, "--json"]);
        assert!(one[0]["doc"].as_str().is_some_and(|doc| doc.contains("# Source")), "{name}");
    }
}

#[test]
fn a_slot_is_listed() {
    let list = stdout(&["methods", "forget"]);
    assert!(list.contains("npo") && !list.contains("sago"), "{list}");
    let all = json_of(&["methods", "unlearn/combine", "--json"]);
    assert!(all.as_array().unwrap().iter().all(|method| method["slot"] == "combine"), "{all}");
    fails(&["methods", "froget"], &["no method called froget", "did you mean forget?"]);
}

#[test]
fn schemas_are_json() {
    let recipe = json_of(&["schema"]);
    assert!(recipe["properties"]["unlearn"].is_object());
    assert_eq!(json_of(&["schema", "unlearn"]), recipe);
    assert!(json_of(&["schema", "npo"])["properties"]["beta"].is_object());
}

#[test]
fn a_new_recipe_is_commented() {
    let recipe = stdout(&["new", "unlearn"]);
    assert!(recipe.starts_with('#') && recipe.contains("method = \"unlearn\""), "{recipe}");
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&["completions", shell]).contains("AMEND_COMPLETE"), "{shell}");
        // The script asks for what it offers: the commands, and their flags.
        let asked = |words: &[&str]| {
            let output = amend(&[&["--", "amend"], words].concat())
                .env("AMEND_COMPLETE", shell)
                .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
                .env("_CLAP_IFS", "\n")
                .assert()
                .code(0)
                .get_output()
                .clone();
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(asked(&["eval", "--ret"]).contains("--retain-log"), "{shell}");
        assert!(asked(&["methods", "sa"]).contains("sago"), "{shell}");
    }
}

#[test]
fn help_is_a_command_too() {
    let help = stdout(&["help"]);
    assert_eq!(help, stdout(&["--help"]));
    assert!(help.contains("amend doctor"), "{help}");
    assert_eq!(stdout(&["help", "run"]), stdout(&["run", "--help"]));
}

/// Every command, as the program lists them.
fn commands() -> Vec<String> {
    let help = stdout(&["help"]);
    let listed = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let name = |line: &str| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned());
    listed.lines().filter_map(name).filter(|name| !name.is_empty() && name != "help").collect()
}

/// A change of them is accepted by `INSTA_UPDATE=always cargo test`.
#[test]
fn help_pages_read_as_they_did() {
    let page = |words: &[&str]| {
        let output = amend(words).env("COLUMNS", "80").assert().code(0).get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    insta::assert_snapshot!("help", page(&["help"]));
    for command in commands() {
        insta::assert_snapshot!(format!("help_{command}"), page(&[&command, "--help"]));
    }
}

#[test]
fn help_pages_fit_80_columns() {
    for page in ["help", "run --help", "chat --help", "eval --help", "generate --help", "completions --help"]
    {
        let words: Vec<&str> = page.split(' ').collect();
        let output = amend(&words).env("COLUMNS", "80").assert().code(0).get_output().clone();
        let page = String::from_utf8(output.stdout).unwrap();
        // A line of usage is never broken.
        let mut lines = page.lines().filter(|line| !line.starts_with("Usage: "));
        assert!(lines.all(|line| line.chars().count() <= 80), "{page}");
    }
}

#[test]
fn the_doctor_finds_something_out() {
    let found = json_of(&["doctor", "--json"]);
    assert!(found["gemm_gflops"].as_f64().unwrap() > 0.1);
    assert!(found["checks"].as_array().unwrap().len() > 4);
    assert!(stdout(&["doctor"]).contains("GFLOP/s"));
}

#[test]
fn every_help_page_fits_a_terminal_and_has_an_example() {
    let commands = [
        "run", "resume", "demo", "new", "methods", "schema", "report", "eval", "score", "generate", "bench",
        "convert", "embed", "compare",
    ];
    for command in commands {
        let help = stdout(&[command, "--help"]);
        let examples = help.split_once("Example").map(|(_, rest)| rest).unwrap_or_default();
        assert!(examples.contains(&format!("amend {command}")), "{help}");
        assert!(examples.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}

/// The reference pages are what the program says of its methods: all of them, and no others.
#[test]
fn the_reference_is_in_step() {
    let reference = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/methods");
    let folder = tempfile::tempdir().unwrap();
    amend(&["methods", "--pages", folder.path().to_str().unwrap()]).assert().code(0);
    let pages = |folder: &std::path::Path| -> Vec<(String, String)> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let files = match path.is_dir() {
                true => std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect(),
                false => vec![path],
            };
            let named = |file: std::path::PathBuf| {
                (
                    file.strip_prefix(folder).unwrap().display().to_string(),
                    std::fs::read_to_string(file).unwrap(),
                )
            };
            all.extend(files.into_iter().map(named));
        }
        all.sort();
        all
    };
    let (written, now) = (pages(&reference), pages(folder.path()));
    let names = |pages: &[(String, String)]| pages.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let said = "run `amend methods --pages docs/methods`";
    assert_eq!(names(&written), names(&now), "{said}");
    for (written, now) in written.iter().zip(&now) {
        assert_eq!(written, now, "{said}");
    }
}

/// The README's table of methods is what the program says of them.
#[test]
fn the_readme_lists_the_methods_there_are() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let table = readme.split("<!-- methods -->").nth(1).unwrap().split("<!-- /methods -->").next().unwrap();
    let printed = stdout(&["methods", "--markdown"]);
    assert_eq!(
        table.trim(),
        printed.trim(),
        "run `amend methods --markdown` and put the table into README.md"
    );
}
