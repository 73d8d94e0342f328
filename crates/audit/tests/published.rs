//! The probes that come with arXiv 2505.12636 (`jiakuan929/superficial-editing`).

#[path = "../../../tests/data.rs"]
mod data;

use amend_audit::prefix::Prefix;
use amend_audit::read_cases;
use amend_run::records::{ReadOptions, Row, Rows, texts_of};

/// Every file is read whole, every probe taken apart into prefix and prompt, and known by its kind.
#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn published_files_are_read() {
    let folder = data::test_data().join("tasks/superficial-editing");
    let kinds = [("wiki", Prefix::Wiki), ("rep", Prefix::Rep), ("puz", Prefix::Que)];
    let mut total = 0;
    for model in ["llama3-8b-it", "qwen2.5-7b-it"] {
        for set in ["counterfact", "zsre"] {
            for (name, prefix) in kinds {
                let path = folder.join(model).join(format!("{set}_{name}.json"));
                let rows = Rows::read(&[&path], &ReadOptions::default()).unwrap().rows;
                let listed = |row: &Row, column: &str| texts_of(row, column).len();
                let counts = ["attack_probes_em", "attack_probes_p"]
                    .map(|column| rows.iter().map(|row| listed(row, column)).sum::<usize>());
                let cases = read_cases(rows, &path.display().to_string(), 0).unwrap();
                let of_kind = || cases.iter().flat_map(|case| &case.probes).filter(|p| p.prefix == prefix);
                let found = [
                    of_kind().filter(|probe| probe.says).count(),
                    of_kind().filter(|probe| probe.likelier).count(),
                ];
                assert_eq!(found, counts, "{}", path.display());
                assert!(cases.iter().all(|case| case.probes.iter().all(|p| p.prefix != Prefix::Given)));
                assert!(cases.iter().all(|case| case.control.is_some() && case.new.is_some()));
                // Whatever counts, each kind is also asked before the edit's own prompt.
                assert!(cases.iter().all(|case| {
                    case.probes.iter().any(|probe| probe.prefix == prefix && probe.prompt == 0)
                }));
                total += cases.len();
            }
        }
    }
    assert_eq!(total, 1030);
}
