//! Arms and attacks that are interrupted end with the bits of those that ran through.

use std::path::{Path, PathBuf};

use amend_engine::Rng;
use amend_learn::Error;
use amend_run::{Program, RunError, RunFolder, Silent, Stop, StopAt};

use crate::support::{carry_out, create, recipe};

/// Arms whose steps differ in every slot, long enough to be interrupted in. The last one's fillers remember.
const SETS: [&str; 5] = [
    "compare=[{ combine = \"sum\", guard = \"sam\" }, { forget = \"idk-dpo\", where = \"lora\" }, \
     { name = \"remembering\", forget = \"llmu\", retain = \"pdu\", combine = \"gru\", guard = \"wa\" }, \
     { name = \"drawing\", forget = \"altpo\", retain = \"rmu\", guard = \"rs\" }, \
     { name = \"reinforced\", forget = { name = \"whp\", reinforce = { steps = 2 } }, guard = \"sure\" }, \
     { name = \"moved\", forget = { name = \"task-vector\", reinforce = { steps = 2 } }, retain = \"none\", \
     combine = \"sum\" }]",
    "unlearn.attack=[{ name = \"relearn\", steps = 9, batch_size = 4, every = 4 }]",
    "stop.max_steps=9",
    "stop.check_every=4",
    "optimizer.schedule=\"linear\"",
];

/// Everything that a run computed, file by file: steps, models, and figures.
fn computed(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let models = ["base", "gold", "sum-sam", "idk-dpo-lora", "remembering", "drawing", "reinforced", "moved"]
        .map(|name| format!("models/{name}/model.safetensors"));
    let files = models.into_iter().chain(["metrics.jsonl".to_owned()]);
    files.map(|file| (PathBuf::from(&file), std::fs::read(dir.join(&file)).unwrap())).collect()
}

#[test]
fn a_run_interrupted_in_every_arm_and_attack_ends_with_the_same_bits() {
    let loaded = recipe(&SETS);
    let scratch = tempfile::tempdir().unwrap();
    let (whole, cut) = (scratch.path().join("whole"), scratch.path().join("cut"));
    let through = carry_out(create(&whole, &loaded), &loaded, &Silent, Stop::default()).unwrap();

    let nanoseconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut random = Rng::at(&[u64::from(nanoseconds)]);
    drop(create(&cut, &loaded));
    let open = || RunFolder::open(&cut, Program::default()).unwrap();
    for stage in [
        "base",
        "sum-sam-unlearn",
        "sum-sam-relearn",
        "idk-dpo-lora-unlearn",
        "idk-dpo-lora-relearn",
        "remembering-unlearn",
        "drawing-unlearn",
        "reinforced-unlearn",
        "moved-unlearn",
        "gold-relearn",
    ] {
        let step = 1 + random.below(8) as u64;
        let stop = Stop::default();
        let ended = carry_out(open(), &loaded, &StopAt::new(stage, step, &stop), stop.clone());
        let interrupted = matches!(ended, Err(Error::Run(RunError::Interrupted)));
        assert!(interrupted, "{stage} was not interrupted after step {step} (seed {nanoseconds})");
    }
    let resumed = carry_out(open(), &loaded, &Silent, Stop::default()).unwrap();

    for ((file, one), (_, other)) in computed(&whole).into_iter().zip(computed(&cut)) {
        assert!(one == other, "{} differs (seed {nanoseconds})", file.display());
    }
    // Figures, curves and samples of the attacks too; only the folders' names differ.
    let figures = |outcome: &amend_unlearn::Outcome, dir: &Path| {
        serde_json::to_string(outcome).unwrap().replace(dir.to_str().unwrap(), "")
    };
    assert_eq!(figures(&through, &whole), figures(&resumed, &cut), "seed {nanoseconds}");
}

/// Ctrl-C comes when it comes: in the middle of a pass, of a look, of an answer.
#[test]
fn stopped_at_any_moment_a_run_ends_with_the_same_bits() {
    let loaded = recipe(&SETS);
    let scratch = tempfile::tempdir().unwrap();
    let (whole, cut) = (scratch.path().join("whole"), scratch.path().join("cut"));
    carry_out(create(&whole, &loaded), &loaded, &Silent, Stop::default()).unwrap();

    let mut random = Rng::at(&[u64::from(std::process::id())]);
    drop(create(&cut, &loaded));
    let mut stopped = 0;
    // Ever later, so that it ends even where a stage cannot be had in one go.
    for patience in 0.. {
        let stop = Stop::default();
        let (asked, after) =
            (stop.clone(), std::time::Duration::from_millis(10 * patience + random.below(60) as u64));
        let asking = std::thread::spawn(move || {
            std::thread::sleep(after);
            asked.request();
        });
        let open = RunFolder::open(&cut, Program::default()).unwrap();
        let ended = carry_out(open, &loaded, &Silent, stop);
        asking.join().unwrap();
        match ended {
            Err(Error::Run(RunError::Interrupted)) => stopped += 1,
            other => {
                other.unwrap();
                break;
            }
        }
    }
    assert!(stopped > 3, "{stopped}");
    for ((file, one), (_, other)) in computed(&whole).into_iter().zip(computed(&cut)) {
        assert!(one == other, "{} differs after {stopped} stops", file.display());
    }
}

/// A measurement of a real model takes minutes, and all of it was lost.
#[test]
fn a_measurement_stops_between_blocks_and_goes_on_where_it_was() {
    let loaded = recipe(&[]);
    let scratch = tempfile::tempdir().unwrap();
    let (whole, cut) = (scratch.path().join("whole"), scratch.path().join("cut"));
    let through = carry_out(create(&whole, &loaded), &loaded, &Silent, Stop::default()).unwrap();

    // Asked to stop once the forget set is answered: the next pass through the model, over the retain set, gives up.
    let stop = Stop::default();
    let ended = carry_out(create(&cut, &loaded), &loaded, &StopAt::new("base-eval", 1, &stop), stop.clone());
    assert!(matches!(ended, Err(Error::Run(RunError::Interrupted))), "{:?}", ended.err());
    let kept = || std::fs::read_to_string(cut.join("answers/base-eval.jsonl")).unwrap();
    let (before, questions) = (kept(), through.seeds[0].before.forget.probability.n);
    assert_eq!(before.lines().count(), questions, "the answers about the forget set are kept");

    // A line that was being written when the process was killed, in the middle of a character.
    let torn = [before.as_bytes(), b"{\"set\":\"retain\",\"question\":\"caf\xc3"].concat();
    std::fs::write(cut.join("answers/base-eval.jsonl"), torn).unwrap();
    let open = RunFolder::open(&cut, Program::default()).unwrap();
    let resumed = carry_out(open, &loaded, &Silent, Stop::default()).unwrap();
    assert!(kept().starts_with(&before), "nothing is asked twice");
    for name in ["base-eval", "gold-eval", "ga-sago-eval", "npo-sago-eval"] {
        let [one, other] =
            [&whole, &cut].map(|dir| std::fs::read(dir.join(format!("answers/{name}.jsonl"))).ok());
        assert!(one == other, "{name}");
    }
    assert_eq!(through.seeds[0].before, resumed.seeds[0].before);
    assert_eq!(through.seeds[0].arms[0].after, resumed.seeds[0].arms[0].after);
}
