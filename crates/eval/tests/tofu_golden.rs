//! The official logs of real models, and the figures their authors published from them.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

#[path = "../../../tests/data.rs"]
mod data;

use std::path::PathBuf;

use amend_eval::scorers::{Rouge, log_truth_ratio};
use amend_eval::stats::ks_two_sample;
use amend_eval::task::{Task, Tofu};
use amend_eval::tofu::{TofuLog, TofuScores, TofuSet, aggregate, rows};
use data::test_data;

fn golden(name: &str) -> PathBuf {
    test_data().join("tasks/tofu/golden_logs").join(name)
}

fn both() -> (TofuLog, TofuLog) {
    let full = golden("phi_full_wd0.01.json");
    let retain = golden("phi_retain90_wd0.01.json");
    (TofuLog::read(&full).unwrap(), TofuLog::read(&retain).unwrap())
}

fn scores(log: &TofuLog, retain: Option<&TofuLog>) -> TofuScores {
    aggregate(&rows(log), retain.map(rows).as_deref())
}

fn close(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} should be {expected}");
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn utility_and_forget_quality_are_the_published_ones() {
    let (full, retain) = both();
    let scores = scores(&full, Some(&retain));
    let utility = scores.model_utility.clone().unwrap();
    close(utility.value, 0.522_073_713_203_515, 1e-12);
    assert_eq!(utility.n, 517);
    let error = utility.stderr.unwrap();
    assert!(error > 0.005 && error < 0.03, "{error}");
    close(aggregate(&rows(&retain), None).model_utility.unwrap().value, 0.531_990_911_779_823_2, 1e-12);

    let quality = scores.forget_quality.clone().unwrap();
    close(quality.statistic, 104.0 / 300.0, 1e-15);
    close(quality.p_value / 2.194_274_302_189_125_7e-16, 1.0, 1e-9);
    close(quality.log10_p, 2.194_274_302_189_125_7e-16f64.log10(), 1e-9);
    assert_eq!((quality.n, quality.m), (300, 300));

    let forget = scores.set(TofuSet::Forget).unwrap();
    close(forget.probability.value, 0.928_239_484_242_319_2, 1e-12);
    close(forget.rouge_l_recall.as_ref().unwrap().value, 0.924_861_262_263_005_2, 1e-12);
    close(forget.truth_ratio.value, 0.483_355_585_668_023_17, 1e-12);
    let authors = scores.set(TofuSet::RealAuthors).unwrap();
    close(authors.probability.value, 0.377_360_325_968_064_9, 1e-12);
    close(authors.truth_ratio.value, 0.456_009_021_339_862_54, 1e-12);
    let world = scores.set(TofuSet::WorldFacts).unwrap();
    close(world.rouge_l_recall.as_ref().unwrap().value, 0.777_350_427_350_427_4, 1e-12);
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn the_test_does_not_care_which_way_the_ratio_is_written() {
    let (full, retain) = both();
    let stored = |log: &TofuLog| -> Vec<f64> {
        log.set(TofuSet::Forget).unwrap().iter().map(|item| item.truth_ratio.unwrap()).collect()
    };
    let (first, second) = (stored(&full), stored(&retain));
    let inverse = |xs: &[f64]| xs.iter().map(|x| 1.0 / x).collect::<Vec<f64>>();
    let test = ks_two_sample(&first, &second).unwrap();
    assert_eq!(test, ks_two_sample(&inverse(&first), &inverse(&second)).unwrap());
    assert_eq!(test, scores(&full, Some(&retain)).forget_quality.unwrap());
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn without_the_retain_log_forget_quality_says_what_it_needs() {
    let (full, mut retain) = both();
    let reason = scores(&full, None).forget_quality.unwrap_err();
    assert_eq!(reason, "not computable: needs the retain model's log (--retain-log)");
    retain.forget = None;
    let reason = scores(&full, Some(&retain)).forget_quality.unwrap_err();
    assert!(reason.contains("the retain model's log has no set `eval_log_forget.json`"), "{reason}");
    retain.world_facts = None;
    let reason = scores(&retain, None).model_utility.unwrap_err();
    assert!(reason.contains("eval_real_world_wo_options.json"), "{reason}");
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn a_set_with_a_broken_item_says_so_and_the_others_are_scored() {
    let (mut full, _) = both();
    full.forget.as_mut().unwrap()[3].avg_gt_loss = f64::NAN;
    let scores = scores(&full, None);
    assert!(scores.set(TofuSet::Forget).is_none() && scores.set(TofuSet::Retain).is_some());
    assert!(scores.model_utility.is_ok());
    let (_, forget) = scores.sets.iter().find(|(set, _)| *set == TofuSet::Forget).unwrap();
    let reason = forget.as_ref().unwrap_err();
    assert!(reason.contains("`eval_log_forget.json`: value 3"), "{reason}");
}

/// Read as samples and aggregated by the task, as the command does it.
#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn the_task_has_the_figures_of_the_log() {
    let (full, retain) = (golden("phi_full_wd0.01.json"), golden("phi_retain90_wd0.01.json"));
    let task = Tofu::default();
    let [samples, reference] = [full, retain].map(|path| task.read_log(&path).unwrap());
    let summary = task.aggregate(&samples, Some(&reference));
    close(summary.figure("model_utility").unwrap().value, 0.522_073_713_203_515, 1e-12);
    close(summary.figure("forget_quality").unwrap().value / 2.194_274_302_189_125_7e-16, 1.0, 1e-9);
    close(summary.figure("forget/truth_ratio").unwrap().value, 0.483_355_585_668_023_17, 1e-12);
    close(summary.figure("real_authors/probability").unwrap().value, 0.377_360_325_968_064_9, 1e-12);
    let without = task.aggregate(&samples, None);
    assert!(without.figure("forget_quality").is_none() && without.missing[0].1.contains("--retain-log"));
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn every_logged_rouge_and_ratio_is_recomputed_from_its_text_and_losses() {
    let (full, retain) = both();
    let rouge = Rouge { stem: true };
    let mut pairs = 0;
    for (log, set) in [&full, &retain].into_iter().flat_map(|log| TofuSet::ALL.map(|set| (log, set))) {
        for item in log.set(set).unwrap() {
            let [_, generation, answer] = item.generated_text.as_ref().unwrap();
            let scores = rouge.score(answer, generation);
            close(scores.rouge1.recall, item.rouge1_recall.unwrap(), 1e-12);
            close(scores.rouge_l.recall, item.rouge_l_recall, 1e-12);
            let ratio = log_truth_ratio(item.avg_paraphrased_loss, &item.average_perturb_loss).unwrap();
            // The log was computed in single precision.
            close(ratio, item.truth_ratio.unwrap().ln(), 2e-6);
            pairs += 1;
        }
    }
    assert_eq!(pairs, 1634);
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn multiple_choice_probabilities_are_the_logged_ones() {
    let (full, _) = both();
    let scored = rows(&full);
    assert_eq!(scored.len(), 817);
    let items = TofuSet::ALL.into_iter().flat_map(|set| full.set(set).unwrap());
    for (row, item) in scored.iter().zip(items) {
        assert_eq!(row.index, item.index);
        if let Some(logged) = item.normalized_gt_loss {
            close(-row.probability.ln(), logged, 2e-6);
        }
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn what_is_read_is_written_again() {
    let path = golden("phi_full_wd0.01.json");
    let original: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(TofuLog::read(&path).unwrap().to_json(), original);
}
