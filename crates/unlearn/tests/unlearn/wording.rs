//! The words of reports, as they are read; a change of them is accepted by `INSTA_UPDATE=always cargo test`.

use amend_run::Report;
use amend_run::report::Section;
use amend_unlearn::report;

use crate::support::run;

/// The report's sections under their headings, each as plain text.
fn by_heading(whole: Report) -> Vec<(String, String)> {
    let mut parts = vec![("summary".to_owned(), Report::new(whole.title.clone()))];
    for section in whole.sections {
        match (section, parts.last_mut()) {
            (Section::Heading(text), _) => parts.push((text.clone(), Report::new(text))),
            (section, Some((_, part))) => drop(part.push(section)),
            (_, None) => unreachable!("there is a summary"),
        }
    }
    parts.into_iter().map(|(heading, part)| (heading, part.to_terminal(110))).collect()
}

#[test]
fn every_section_of_a_report_reads_as_it_did() {
    let arms = "compare=[{ combine = \"sum\" }, { name = \"adapter\", where = \"lora\", lr = 1e-2 }]";
    let (outcome, folder) = run(&[arms, "model.scratch.epochs=60", "stop.below=0.3", "stop.max_steps=6"]);
    let parts = by_heading(report(&outcome, &folder.path().join("run")).unwrap());
    let headings: Vec<&str> = parts.iter().map(|(heading, _)| heading.as_str()).collect();
    insta::assert_snapshot!("headings", headings.join("\n"));
    for (heading, text) in parts {
        let name = heading.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn several_seeds_are_said_to_be_several() {
    let (outcome, folder) = run(&["seeds=[3, 5]", "unlearn.attack=[]", "model.scratch.epochs=60"]);
    let parts = by_heading(report(&outcome, &folder.path().join("run")).unwrap());
    insta::assert_snapshot!("summary_of_two_seeds", parts[0].1);
}
