//! The engine's modules depend on each other one way, but for those whose circle is argued.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that know of each other. Why is under Decisions in CONTRIBUTING.md ("GGUF is read as if it were a
/// folder").
const ARGUED: [&str; 3] = ["checkpoint", "models", "tokenizer"];

/// The names in a `use` or path after its start: `{a, b::C}` or `a`.
fn names(text: &str) -> Vec<&str> {
    let list = text.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or(text, |(inner, _)| inner);
    let list = if text.starts_with('{') {
        list
    } else {
        &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
    };
    list.split(',')
        .map(|part| part.trim().split("::").next().unwrap().trim())
        .filter(|n| !n.is_empty())
        .collect()
}

/// The code of a file: no comments, no tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => rust_files(&path, into),
            false => into.extend(path.extension().is_some_and(|e| e == "rs").then_some(path)),
        }
    }
}

/// What every module of the crate names of the others, through their paths or what `lib.rs` takes from them.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = code(&source.join("lib.rs"));
    let mut homes: BTreeMap<&str, &str> = BTreeMap::new();
    for line in lib.lines() {
        let module =
            line.trim_start_matches("pub ").strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
        homes.extend(module.map(|module| (module, module)));
    }
    let modules: Vec<&str> = homes.keys().copied().collect();
    for (module, rest) in lib.split("pub use ").skip(1).filter_map(|item| item.split_once("::")) {
        if modules.contains(&module) {
            homes.extend(names(rest).into_iter().map(|name| (name, module)));
        }
    }
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let inside = file.strip_prefix(&source).unwrap().with_extension("");
        let module = inside.iter().next().unwrap().to_str().unwrap().to_owned();
        let code = code(&file);
        let used = code.split("crate::").skip(1).flat_map(names).filter_map(|name| homes.get(name));
        let others = used.filter(|home| **home != module).map(|home| (*home).to_owned()).collect::<Vec<_>>();
        if module != "lib" {
            found.entry(module).or_default().extend(others);
        }
    }
    found
}

fn reachable(from: &str, dependencies: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = open.pop() {
        for next in &dependencies[&module] {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn no_circle_between_modules_but_those_that_are_argued() {
    let dependencies = dependencies();
    assert!(dependencies["taps"].contains("tape"), "the test sees what there is: {dependencies:?}");
    let circles: Vec<&str> = dependencies
        .keys()
        .filter(|module| reachable(module, &dependencies).contains(*module))
        .map(String::as_str)
        .collect();
    assert_eq!(circles, ARGUED, "{dependencies:#?}");
}
