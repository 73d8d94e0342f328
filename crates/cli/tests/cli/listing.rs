//! Commands that tell what there is.

use crate::support::{json_of, stdout};

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
        assert!(stdout(&["completions", shell]).contains("retain-log"), "{shell}");
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
