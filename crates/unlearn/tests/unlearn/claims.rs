//! What is claimed of a result, what was asked for, and what is wrong with the experiment itself.

use amend_run::Figure;
use amend_unlearn::Outcome;
use amend_unlearn::outcome::SeedResult;
use amend_unlearn::verdict::Claim;

use crate::registry::fillers;
use crate::support::{recipe, run};

/// The seeds of a run whose model knew nine of ten answers, of which it kept eight, and forgot all but one.
fn seeds() -> Vec<SeedResult> {
    let (outcome, _folder) = run(&[]);
    let mut seeds = outcome.seeds;
    for seed in &mut seeds {
        seed.watched_before = Figure::exact(0.9, 10);
        seed.before.forget.accuracy = Figure::share(9, 10);
        seed.before.retain.accuracy = Figure::share(9, 10);
        seed.before.forget.probability = Figure::exact(0.9, 10);
        seed.before.retain.probability = Figure::exact(0.9, 10);
        for arm in &mut seed.arms {
            arm.after.retain.accuracy = Figure::share(8, 10);
            arm.unlearned.reached = true;
            brings_back(&mut arm.attacks[0].1, 0.1, 0.5);
            arm.attacks[0].1.weak = None;
        }
        brings_back(&mut seed.gold_findings[0].1, 0.1, 0.2);
    }
    seeds
}

/// An attack that begins at one accuracy and comes to another.
fn brings_back(findings: &mut amend_unlearn::attack::Findings, from: f64, to: f64) {
    for (name, figure) in &mut findings.figures {
        if name == "accuracy" {
            *figure = Figure::exact(to, 10);
        }
    }
    for curve in findings.curves.iter_mut().filter(|curve| curve.y == "accuracy") {
        curve.points = vec![(0.0, from), (2.0, to)];
    }
}

fn outcome(verdict: &str, seeds: Vec<SeedResult>) -> Outcome {
    Outcome::of(&recipe(&[&format!("unlearn.verdict=[{verdict}]")]).recipe, seeds)
}

/// The first claim, which is the one asked for where anything is.
fn claim(verdict: &str, seeds: Vec<SeedResult>) -> Claim {
    outcome(verdict, seeds).arms[0].claims[0].clone()
}

#[test]
fn every_verdict_claims_whether_it_is_asked_for_or_not() {
    for name in fillers("verdict") {
        let outcome = outcome(&format!("\"{name}\""), seeds());
        let asked: Vec<_> = outcome.arms[0].asked().collect();
        assert_eq!(asked.len(), 1, "{name}");
        assert!(asked[0].pass.is_some() && asked[0].judged.figure.value.is_finite(), "{name}: {asked:?}");
        assert_eq!(outcome.passed, Some(asked[0].pass == Some(true)), "{name}");
        let mut names: Vec<_> = outcome.arms[0].claims.iter().map(|claim| claim.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["forgotten", "kept", "withstands relearn"], "{name}");
    }
    let nothing = outcome("", seeds());
    assert!(nothing.passed.is_none() && nothing.arms[0].claims.iter().all(|claim| !claim.asked));
}

#[test]
fn verdicts_turn_on_their_thresholds() {
    let kept = |share: f64| claim(&format!("{{ name = \"kept\", share = {share} }}"), seeds()).pass;
    assert_eq!((kept(0.8), kept(0.95)), (Some(true), Some(false)));
    let withstands =
        |margin: f64| claim(&format!("{{ name = \"withstands\", margin = {margin} }}"), seeds()).pass;
    // 0.5 came back, and 0.2 from the gold model.
    assert_eq!((withstands(0.2), withstands(0.4)), (Some(false), Some(true)));
    // That a weak attack brings nothing back shows nothing; what it does bring back was there.
    let weakly = |margin: f64| {
        let mut seeds = seeds();
        seeds
            .iter_mut()
            .flat_map(|seed| &mut seed.arms)
            .for_each(|arm| arm.attacks[0].1.weak = Some("so".into()));
        claim(&format!("{{ name = \"withstands\", margin = {margin} }}"), seeds).pass
    };
    assert_eq!((weakly(0.2), weakly(0.4)), (Some(false), None));
}

#[test]
fn without_a_gold_model_an_attack_is_compared_with_before_and_with_the_moment_of_forgetting() {
    let without_gold = || {
        let mut seeds = seeds();
        for seed in &mut seeds {
            seed.gold = None;
            seed.gold_findings.clear();
        }
        seeds
    };
    let claim = claim("\"withstands\"", without_gold());
    // From 0.1 back to 0.5, of the 0.9 there were.
    assert!((claim.judged.figure.value - 0.5).abs() < 1e-9, "{claim:?}");
    assert_eq!((claim.pass, claim.answer.as_str()), (Some(false), "no, accuracy 0.10 → 0.50 (0.90 before)"));
}

/// What measures no accuracy was compared with the accuracy there had been.
#[test]
fn an_attack_that_does_not_measure_what_is_judged_is_judged_by_its_own_figure() {
    let found = |name: &str| {
        let mut seeds = seeds();
        for seed in &mut seeds {
            seed.gold = None;
            seed.gold_findings.clear();
            seed.before.forget.leak = Some(Figure::exact(0.9, 10));
            for arm in &mut seed.arms {
                let findings = &mut arm.attacks[0].1;
                findings.curves.clear();
                findings.figures = vec![(name.to_owned(), Figure::exact(0.6, 10))];
                findings.before = vec![(name.to_owned(), Figure::exact(0.1, 10))];
            }
        }
        claim("\"withstands\"", seeds)
    };
    let leak = found("leak");
    assert!((leak.judged.figure.value - 0.625).abs() < 1e-9, "{leak:?}");
    assert_eq!((leak.pass, leak.answer.as_str()), (Some(false), "no, leak 0.10 → 0.60 (0.90 before)"));
    assert_eq!(leak.shown.name, "relearn: leak");
    let unknown = found("advantage");
    assert_eq!((unknown.pass, unknown.answer.as_str()), (None, "not judged, needs a gold model"));
}

/// A model that knows neither set was said to have forgotten the one and kept the other.
#[test]
fn what_was_not_known_is_neither_forgotten_nor_kept() {
    let (outcome, folder) = run(&["stop.below=0.9"]);
    let arm = &outcome.arms[0];
    let kept = arm.claims.iter().find(|claim| claim.name == "kept").unwrap();
    assert_eq!((kept.pass, kept.answer.as_str()), (None, "nothing to keep"));
    assert_eq!(outcome.passed, Some(false));
    assert!(outcome.premises[0].starts_with("There was nothing to forget"), "{:?}", outcome.premises);
    assert!(outcome.premises[1].starts_with("There was nothing to keep"), "{:?}", outcome.premises);
    let page = amend_unlearn::report(&outcome, &folder.path().join("run")).unwrap().to_html();
    let (premise, verdict) = (page.find("There was nothing to forget"), page.find("Failed:"));
    assert!(premise.is_some() && premise < verdict, "what is wrong with the premise comes first");
}

/// A retain probability that rose to 369 % counted as kept.
#[test]
fn what_was_learnt_along_the_way_is_not_kept() {
    let mut learnt = seeds();
    for seed in &mut learnt {
        seed.before.retain.accuracy = Figure::share(5, 10);
        seed.before.retain.probability = Figure::exact(0.5, 10);
        seed.before.forget.leak = Some(Figure::share(9, 10));
        seed.arms[0].after.retain.accuracy = Figure::share(10, 10);
    }
    let outcome = outcome("\"kept\"", learnt);
    let claim = &outcome.arms[0].claims[0];
    assert_eq!((claim.pass, claim.answer.as_str()), (None, "learnt, 200 %"));
    assert!(
        outcome.passed == Some(false) && outcome.premises[0].contains("learnt the retain set"),
        "{:?}",
        outcome.premises
    );
}

#[test]
fn a_figure_that_moves_away_from_its_aim_is_told_so() {
    let mut away = seeds();
    for seed in &mut away {
        seed.arms[0].unlearned.reached = false;
        seed.arms[0].unlearned.watched = Figure::exact(0.95, 10);
    }
    let advice = claim("\"forgotten\"", away).advice.unwrap();
    assert!(advice.contains("moved away from its aim, from 0.900 to 0.950"), "{advice}");
    assert!(advice.contains("lower the learning rate"), "{advice}");
}

#[test]
fn a_verdict_about_attacks_needs_one() {
    let recipe = recipe(&["unlearn.verdict=[\"withstands\"]", "unlearn.attack=[]"]);
    let scratch = tempfile::tempdir().unwrap();
    let folder = crate::support::create(&scratch.path().join("run"), &recipe);
    let refused = crate::support::carry_out(folder, &recipe, &amend_run::Silent, amend_run::Stop::default());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("`withstands`") && error.contains("relearn"), "{error}");
}

/// A fluent model finds any answer fairly probable. That it becomes less so was called forgetting, of answers it never knew.
#[test]
fn a_model_that_gave_nothing_away_is_said_to_have_hardly_known() {
    let said = |leak: Option<Figure>| {
        let mut seeds = seeds();
        for seed in &mut seeds {
            seed.before.forget.leak = leak;
        }
        outcome("\"forgotten\"", seeds).premises.iter().any(|premise| premise.contains("hardly knew"))
    };
    assert!(said(Some(Figure::mean(&[0.0, 0.1]))));
    assert!(!said(Some(Figure::mean(&[0.9, 1.0]))) && !said(None));
}
