//! A policy and a critic trained together, with everything a learner may have beside them: interrupted, killed, and
//! decided about from outside, always to the same bits.
#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use amend_engine::checkpoint::SafetensorsFile;
use amend_engine::{Gradients, Graph, ParamId, Params, Rng, Selection, Tensor, Var};
use amend_learn::{
    Descended, Descent, Error, Learner, Optimizer, Result, StateReader, StateWriter, Step, train,
};
use amend_run::decisions::{Advice, Decision, Decisions, Overseer};
use amend_run::folder::Program;
use amend_run::step_log::{METRICS, StepLog, StepRow, TRAJECTORIES};
use amend_run::{Activity, Progress, Run, RunError, RunFolder, RunInfo, Silent, Stop, StopAt};
use serde_json::{Map, Value, json};

const STEPS: u64 = 20;
const STATES: usize = 6;
const ACTIONS: usize = 3;

/// A linear map with its optimiser.
struct Part {
    params: Params,
    weight: ParamId,
    descent: Descent,
}

impl Part {
    fn new(columns: usize, lr: f64) -> Self {
        let mut params = Params::default();
        let weight = Tensor::from_f32(&vec![0.0; STATES * columns], &[STATES, columns]).unwrap();
        let weight = params.add("weight", weight).unwrap();
        let options = Optimizer { lr, warmup_steps: 3, ..Optimizer::default() };
        Part { descent: Descent::new(&params, &options, STEPS).unwrap(), params, weight }
    }

    /// The map's outputs for the given states.
    fn outputs(&self, g: &mut Graph<'_>, states: &[usize]) -> Result<Var> {
        let mut one_hot = vec![0.0; states.len() * STATES];
        states.iter().enumerate().for_each(|(row, state)| one_hot[row * STATES + state] = 1.0);
        let rows = Var::constant(Tensor::from_f32(&one_hot, &[states.len(), STATES]).unwrap());
        let weight = g.parameter(self.weight);
        Ok(g.matmul(&rows, &weight)?)
    }

    fn descend(&mut self, mut gradients: Gradients, step: u64) -> Result<Descended> {
        self.descent.step(&mut self.params, &mut gradients, step, &[])
    }
}

/// REINFORCE with a critic on a bandit with states. Beside the two models it has what reinforcement learning has:
/// a multiplier that adapts, an average of the past, a buffer. All of them change what later steps do.
struct ActorCritic {
    policy: Part,
    critic: Part,
    /// Moves with the advantages' spread and scales the policy's loss.
    multiplier: f64,
    /// Running mean of the rewards by action.
    average: Tensor,
    /// The last advantages; NaN where there was none yet.
    recent: Vec<f64>,
    /// Fails at this step as a killed process would: without a word.
    dies_at: Option<u64>,
}

impl ActorCritic {
    fn new() -> Self {
        ActorCritic {
            policy: Part::new(ACTIONS, 0.1),
            critic: Part::new(1, 0.05),
            multiplier: 1.0 / 3.0,
            average: Tensor::from_f32(&[0.1; ACTIONS], &[ACTIONS]).unwrap(),
            recent: vec![f64::NAN; 4],
            dies_at: None,
        }
    }
}

impl Learner for ActorCritic {
    fn step(&mut self, step: u64) -> Result<Step> {
        if self.dies_at == Some(step) {
            return Err(Error::invalid("killed"));
        }
        let states: Vec<usize> = (0..8).map(|i| Rng::at(&[1, step, i]).below(STATES)).collect();
        // The policy acts.
        let mut g = Graph::recording(&self.policy.params);
        let logits = self.policy.outputs(&mut g, &states)?;
        let probabilities = g.softmax(&logits)?;
        let act = |row: usize| {
            let mut left = Rng::at(&[2, step, row as u64]).uniform();
            let row = &probabilities.value().f32()[row * ACTIONS..][..ACTIONS];
            row.iter()
                .position(|p| {
                    left -= f64::from(*p);
                    left < 0.0
                })
                .unwrap_or(ACTIONS - 1)
        };
        let actions: Vec<usize> = (0..states.len()).map(act).collect();
        let reward = |row: usize| f32::from(u8::from(states[row] % ACTIONS == actions[row]));
        let rewards: Vec<f32> = (0..states.len()).map(reward).collect();
        // The critic says what was to be expected, and learns what came.
        let mut h = Graph::recording(&self.critic.params);
        let values = self.critic.outputs(&mut h, &states)?;
        let error = Var::constant(Tensor::from_f32(&rewards, &[rewards.len(), 1]).unwrap());
        let error = h.sub(&values, &error)?;
        let square = h.mul(&error, &error)?;
        let critic_loss = h.mean(&square)?;
        let advantages: Vec<f32> = error.value().f32().iter().map(|e| -e).collect();
        let critic_gradients = h.backward(&critic_loss)?;
        self.critic.descend(critic_gradients, step)?;
        // The policy learns from what was better than expected.
        let logprobs = g.ln(&probabilities)?;
        let mut weights = vec![0.0; states.len() * ACTIONS];
        for (row, action) in actions.iter().enumerate() {
            let past = self.average.f32()[*action];
            weights[row * ACTIONS + action] = -(advantages[row] - 0.1 * past) * self.multiplier as f32;
        }
        let loss = g.weighted_sum(&logprobs, &weights)?;
        let taken = self.policy.descend(g.backward(&loss)?, step)?;
        // The rest of the state moves on.
        let mean = advantages.iter().copied().map(f64::from).sum::<f64>() / advantages.len() as f64;
        self.recent.remove(0);
        self.recent.push(mean);
        let known = self.recent.iter().filter(|a| !a.is_nan());
        self.multiplier *= (0.1 * known.sum::<f64>()).exp();
        for (action, reward) in actions.iter().zip(&rewards) {
            let average = &mut self.average.f32_mut()[*action];
            *average += 0.1 * (reward - *average);
        }
        let mut row = Map::new();
        row.insert("reward".into(), json!(rewards.iter().sum::<f32>()));
        row.insert("multiplier".into(), json!(self.multiplier));
        taken.log(&mut row);
        let trajectory = |i: usize| {
            let of = json!({ "state": states[i], "action": actions[i], "advantage": advantages[i] });
            of.as_object().cloned().unwrap_or_default()
        };
        Ok(Step { row, trajectories: (0..states.len()).map(trajectory).collect(), ..Step::default() })
    }

    fn save(&self, to: &mut StateWriter) -> Result<()> {
        self.policy.descent.save("policy", &self.policy.params, to)?;
        self.critic.descent.save("critic", &self.critic.params, to)?;
        to.tensor("average", &self.average);
        to.value("multiplier", &self.multiplier)?;
        to.value("recent", &self.recent)
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        self.policy.descent.load("policy", &mut self.policy.params, from)?;
        self.critic.descent.load("critic", &mut self.critic.params, from)?;
        self.average = from.tensor("average")?;
        self.multiplier = from.value("multiplier")?;
        self.recent = from.value("recent")?;
        Ok(())
    }

    fn set(&mut self, option: &str, value: &Value) -> Result<()> {
        match option.split_once('.') {
            Some(("policy", option)) => self.policy.descent.set(option, value),
            Some(("critic", option)) => self.critic.descent.set(option, value),
            _ => Err(Error::invalid(format!("there is no option {option}"))),
        }
    }
}

/// What a stage ends with, bit for bit: both models, and the rest of the learner's state.
type Bits = (u64, Vec<u32>, Vec<u32>, Vec<u32>, u64, String);

/// One process's part of a run: opens or creates the folder and works until it ends or is stopped.
struct Process<'a> {
    progress: &'a dyn Progress,
    stop: Stop,
    overseer: Option<Box<dyn Overseer>>,
    dies_at: Option<u64>,
    keep: usize,
}

impl Default for Process<'_> {
    fn default() -> Self {
        Process { progress: &Silent, stop: Stop::default(), overseer: None, dies_at: None, keep: 1 }
    }
}

impl Process<'_> {
    fn work(self, dir: &Path) -> Result<Bits> {
        let mut run = Run::new(folder(dir)?, self.progress, self.stop)?;
        run.checkpoint_every = Duration::from_secs(3600);
        run.checkpoints.keep(self.keep);
        run.overseer = self.overseer;
        run.once("before", |run| Ok::<_, RunError>(run.metrics.append("before", 1, &json!({}))?))?;
        run.once("rl", |run| {
            let mut learner = ActorCritic { dies_at: self.dies_at, ..ActorCritic::new() };
            let steps = train(run, STEPS, &mut learner)?;
            let bits = |t: &Tensor| t.f32().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let weight = |part: &Part| bits(&part.params.get(part.weight).tensor);
            let (multiplier, recent) = (learner.multiplier.to_bits(), format!("{:?}", learner.recent));
            let average = bits(&learner.average);
            Ok((steps, weight(&learner.policy), weight(&learner.critic), average, multiplier, recent))
        })
    }

    /// Works until a stop is asked for after `steps` steps of the stage.
    fn stopped_after(steps: u64, dir: &Path) -> Result<Bits> {
        let stop = Stop::default();
        let listener = StopAt::new("rl", steps, &stop);
        Process { progress: &listener, stop, ..Process::default() }.work(dir)
    }
}

/// Opens the run folder, or makes it.
fn folder(dir: &Path) -> Result<RunFolder> {
    Ok(match dir.join("run.json").exists() {
        true => RunFolder::open(dir, Program::default())?,
        false => RunFolder::create(dir, "", RunInfo::default())?,
    })
}

struct Dirs(tempfile::TempDir);

impl Dirs {
    fn new() -> Self {
        Dirs(tempfile::tempdir().unwrap())
    }

    fn dir(&self, name: impl std::fmt::Display) -> PathBuf {
        self.0.path().join(name.to_string())
    }
}

fn rows(dir: &Path) -> [String; 2] {
    [METRICS, TRAJECTORIES].map(|name| fs::read_to_string(dir.join(name)).unwrap())
}

fn interrupted(result: Result<Bits>) -> bool {
    matches!(result, Err(Error::Run(RunError::Interrupted)))
}

#[test]
fn a_policy_and_a_critic_learn() {
    let dirs = Dirs::new();
    Process::default().work(&dirs.dir("a")).unwrap();
    let reward = |row: &StepRow| row.values["reward"].as_f64().unwrap();
    let rows: Vec<StepRow> =
        StepLog::read(&dirs.dir("a"), METRICS).unwrap().into_iter().filter(|r| r.stage == "rl").collect();
    let sum = |rows: &[StepRow]| rows.iter().map(reward).sum::<f64>();
    assert!(sum(&rows[15..]) > sum(&rows[..5]) + 5.0, "{} {}", sum(&rows[15..]), sum(&rows[..5]));
}

#[test]
fn stopped_after_any_step_they_end_with_the_same_bits() {
    let dirs = Dirs::new();
    let whole = Process::default().work(&dirs.dir("whole")).unwrap();
    for steps in 0..STEPS {
        let dir = dirs.dir(steps);
        assert!(interrupted(Process::stopped_after(steps, &dir)), "after {steps}");
        assert_eq!(Process::default().work(&dir).unwrap(), whole, "stopped after {steps}");
        assert_eq!(rows(&dir), rows(&dirs.dir("whole")), "stopped after {steps}");
        assert_eq!(fs::read_dir(dir.join("checkpoints")).unwrap().count(), 0);
    }
}

#[test]
fn killed_after_any_step_they_end_with_the_same_bits() {
    let dirs = Dirs::new();
    let whole = Process::default().work(&dirs.dir("whole")).unwrap();
    for (checkpoint, death) in [(0, 0), (0, 5), (3, 4), (3, 19), (11, 12), (19, 19)] {
        let dir = dirs.dir(format_args!("{checkpoint}-{death}"));
        assert!(interrupted(Process::stopped_after(checkpoint, &dir)));
        let killed = Process { dies_at: Some(death), ..Process::default() }.work(&dir);
        assert!(killed.unwrap_err().to_string().contains("killed"));
        assert_eq!(Process::default().work(&dir).unwrap(), whole, "killed in step {death}");
        assert_eq!(rows(&dir), rows(&dirs.dir("whole")), "killed in step {death}");
    }
}

/// Repairs a run at fixed rows.
struct Repairs;

impl Overseer for Repairs {
    fn look(&mut self, stage: &str, step: u64, row: &Map<String, Value>) -> Vec<Advice> {
        assert!(stage == "rl" && row.contains_key("reward"));
        let lr = row["lr"].as_f64().unwrap();
        let set = |option: &str, value: Value| Decision::Set { option: option.into(), value };
        // Only the first time: the learning rate tells whether the run was here before.
        let decisions = match step {
            4 => vec![set("critic.lr", json!(0.1 + 0.2)), set("critic.no_such", json!(1))],
            12 if lr > 0.05 => vec![Decision::RollBack { to: 9 }, set("policy.lr", json!(0.04))],
            16 => vec![Decision::Stop],
            _ => Vec::new(),
        };
        decisions.into_iter().map(|decision| Advice { decision, reason: "a test".into() }).collect()
    }
}

fn overseen(progress: &dyn Progress, stop: Stop) -> Process<'_> {
    Process { progress, stop, overseer: Some(Box::new(Repairs)), keep: 3, ..Process::default() }
}

/// A run that was repaired: it set an option at step 4, went from 12 back to 6, and ended at 16.
fn repaired(dir: &Path) -> Bits {
    let stop = Stop::default();
    assert!(interrupted(overseen(&StopAt::new("rl", 6, &stop), stop.clone()).work(dir)));
    overseen(&Silent, Stop::default()).work(dir).unwrap()
}

#[test]
fn decisions_change_a_run_and_are_recorded() {
    let dirs = Dirs::new();
    let plain = Process::default().work(&dirs.dir("plain")).unwrap();
    let bits = repaired(&dirs.dir("repaired"));
    assert_eq!((plain.0, bits.0), (STEPS, 16));
    assert_ne!((&plain.1, &plain.2), (&bits.1, &bits.2));
    let decided = Decisions::read(&dirs.dir("repaired")).unwrap();
    let steps: Vec<(u64, &Decision)> = decided.iter().map(|d| (d.step, &d.advice.decision)).collect();
    assert!(matches!(
        steps[..],
        [
            (4, Decision::Set { .. }),
            (4, Decision::Set { .. }),
            (12, Decision::RollBack { to: 6 }),
            (6, Decision::Set { .. }),
            (16, Decision::Stop),
        ]
    ));
    let steps = StepLog::read(&dirs.dir("repaired"), METRICS).unwrap();
    let steps: Vec<u64> = steps.iter().filter(|r| r.stage == "rl").map(|r| r.step).collect();
    assert_eq!(steps, (1..=16).collect::<Vec<_>>(), "what it went back behind is forgotten");
}

#[test]
fn recorded_decisions_are_replayed_to_the_same_bits() {
    let dirs = Dirs::new();
    let bits = repaired(&dirs.dir("repaired"));
    let with_decisions = |name: &str| {
        let dir = dirs.dir(name);
        assert!(interrupted(Process::stopped_after(0, &dir)));
        fs::remove_dir_all(dir.join("checkpoints")).unwrap();
        fs::copy(dirs.dir("repaired").join(Decisions::FILE), dir.join(Decisions::FILE)).unwrap();
        dir
    };
    let replay = || Process { keep: 3, ..Process::default() };
    let whole = with_decisions("whole");
    assert_eq!(replay().work(&whole).unwrap(), bits, "nobody has to decide again");
    assert_eq!(rows(&whole), rows(&dirs.dir("repaired")));
    for steps in [2, 4, 5, 6, 7, 11, 12, 15] {
        let dir = with_decisions(&format!("stopped-{steps}"));
        assert!(interrupted(Process::stopped_after(steps, &dir)), "after {steps}");
        assert_eq!(replay().work(&dir).unwrap(), bits, "stopped after {steps}");
        assert_eq!(rows(&dir), rows(&whole), "stopped after {steps}");
    }
}

/// Dies when it is told of a decision: that is after it was recorded and before it is obeyed.
struct DiesWhenTold {
    of: Option<&'static str>,
    inner: StopAt,
}

impl Progress for DiesWhenTold {
    fn begin(&self, label: &str, total: u64, unit: &str) -> Box<dyn Activity> {
        self.inner.begin(label, total, unit)
    }

    fn note(&self, line: &str) {
        assert!(self.of.is_none_or(|of| !line.contains(of)), "killed at: {line}");
    }
}

#[test]
fn killed_between_recording_and_obeying_a_run_obeys_when_it_is_resumed() {
    let dirs = Dirs::new();
    let bits = repaired(&dirs.dir("repaired"));
    for (index, of) in
        ["critic.lr is set", "back to step", "policy.lr is set", "ends here"].iter().enumerate()
    {
        let dir = dirs.dir(index);
        let (mut kills, mut last) = (0, None);
        // The parts of the repaired run: to the checkpoint it went back to, and from there to the end.
        for steps in [6, u64::MAX] {
            last = loop {
                let stop = Stop::default();
                let inner = StopAt::new("rl", steps, &stop);
                let progress = DiesWhenTold { of: (kills == 0).then_some(*of), inner };
                match catch_unwind(AssertUnwindSafe(|| overseen(&progress, stop).work(&dir))) {
                    Ok(ended) => break Some(ended),
                    Err(_) => kills += 1,
                }
            };
        }
        assert_eq!(kills, 1, "{of}");
        assert_eq!(last.unwrap().unwrap(), bits, "{of}");
        assert_eq!(rows(&dir), rows(&dirs.dir("repaired")), "{of}");
    }
}

#[test]
fn a_step_that_would_destroy_a_model_is_not_taken() {
    let mut part = Part::new(1, 0.1);
    let before = part.params.get(part.weight).tensor.clone();
    let mut gradients = Gradients::none(&part.params);
    gradients.set(part.weight, Tensor::from_f32(&[f32::NAN; STATES], &[STATES, 1]).unwrap());
    let error = part.descent.step(&mut part.params, &mut gradients, 0, &[3, 5]).unwrap_err();
    assert!(error.to_string().contains("weight") && error.to_string().contains("[3, 5]"), "{error}");
    assert_eq!(part.params.get(part.weight).tensor.f32(), before.f32());
}

/// With eps = 0, what had no gradient became 0/0; other options brought NaN into every weight.
#[test]
fn options_that_would_destroy_the_weights_are_refused() {
    let mut part = Part::new(1, 0.1);
    type Change = fn(&mut Optimizer);
    let cases: [(Change, &str, &str); 11] = [
        (|o| o.lr = f64::NAN, "lr", "at least 0, found the number NaN"),
        (|o| o.lr = -1.0, "lr", "at least 0, found the number -1.0"),
        (|o| o.lr = f64::INFINITY, "lr", "at least 0, found the number inf"),
        (|o| o.beta1 = 1.0, "beta1", "at least 0 and less than 1, found the number 1.0"),
        (|o| o.beta2 = -0.5, "beta2", "at least 0 and less than 1, found the number -0.5"),
        (|o| o.beta2 = f32::NAN, "beta2", "less than 1"),
        (|o| o.eps = 0.0, "eps", "more than 0, found the number 0.0"),
        (|o| o.eps = f32::INFINITY, "eps", "more than 0"),
        (|o| o.weight_decay = -0.1, "weight_decay", "at least 0"),
        (|o| o.max_grad_norm = -1.0, "max_grad_norm", "at least 0"),
        (|o| o.max_grad_norm = f64::NAN, "max_grad_norm", "at least 0"),
    ];
    for (change, key, range) in cases {
        let mut options = Optimizer::default();
        change(&mut options);
        let error = Descent::new(&part.params, &options, STEPS).unwrap_err().to_string();
        assert!(error.contains(&format!("`optimizer.{key}` must be ")) && error.contains(range), "{error}");
    }
    for (option, value) in [("lr", json!(-1)), ("beta1", json!(1)), ("eps", json!(0)), ("eps", json!(1e-60))]
    {
        let error = part.descent.set(option, &value).unwrap_err().to_string();
        assert!(error.contains(&format!("`optimizer.{option}` must be ")), "{error}");
    }
    part.descent.set("lr", &json!(0)).unwrap();
}

/// A map of which one row may change.
fn selected() -> Part {
    let mut part = Part::new(ACTIONS, 0.1);
    part.params.get_mut(part.weight).selection = Some(Selection::rows(2..3));
    // So that the length of a gradient decides how far a step goes.
    let options = Optimizer { lr: 0.1, eps: 1.0, max_grad_norm: 1.0, ..Optimizer::default() };
    part.descent = Descent::new(&part.params, &options, STEPS).unwrap();
    part
}

/// A gradient of 3 in row 2, and of `elsewhere` in the other rows.
fn gradients(part: &Part, elsewhere: f32) -> Gradients {
    let row = |row: usize| [if row == 2 { 3.0 } else { elsewhere }; ACTIONS];
    let values: Vec<f32> = (0..STATES).flat_map(row).collect();
    let mut gradients = Gradients::none(&part.params);
    gradients.set(part.weight, Tensor::from_f32(&values, &[STATES, ACTIONS]).unwrap());
    gradients
}

/// Coordinates that do not move once counted in the length of a gradient that no backward pass had made.
#[test]
fn clipping_counts_what_may_change() {
    let after = |elsewhere: f32| {
        let mut part = selected();
        let norms: Vec<f64> = (0..3)
            .map(|step| {
                let gradients = gradients(&part, elsewhere);
                part.descend(gradients, step).unwrap().grad_norm
            })
            .collect();
        (norms, part.params.get(part.weight).tensor.f32().to_vec())
    };
    let (norms, weights) = after(0.0);
    assert_eq!(norms, [27f64.sqrt(); 3], "three coordinates of 3");
    assert_eq!(after(100.0), (norms, weights));
    assert!(after(f32::NAN).1.iter().all(|weight| weight.is_finite()), "nor do they stop a step");
}

/// A stage that trains one row.
struct OneRow(Part);

impl Learner for OneRow {
    fn step(&mut self, step: u64) -> Result<Step> {
        let gradients = gradients(&self.0, step as f32);
        self.0.descend(gradients, step)?;
        Ok(Step::default())
    }

    fn save(&self, to: &mut StateWriter) -> Result<()> {
        self.0.descent.save("row", &self.0.params, to)
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        self.0.descent.load("row", &mut self.0.params, from)
    }

    fn set(&mut self, option: &str, value: &Value) -> Result<()> {
        self.0.descent.set(option, value)
    }
}

#[test]
fn a_checkpoint_holds_what_may_change_and_leads_to_the_same_bits() {
    let dirs = Dirs::new();
    let work = |dir: &Path, stop_after: u64| -> Result<Vec<f32>> {
        let stop = Stop::default();
        let listener = StopAt::new("row", stop_after, &stop);
        let mut run = Run::new(folder(dir)?, &listener, stop)?;
        run.checkpoint_every = Duration::from_secs(3600);
        run.once("row", |run| {
            let mut learner = OneRow(selected());
            train(run, STEPS, &mut learner)?;
            Ok(learner.0.params.get(learner.0.weight).tensor.f32().to_vec())
        })
    };
    let whole = work(&dirs.dir("whole"), u64::MAX).unwrap();
    let cut = dirs.dir("cut");
    work(&cut, 7).unwrap_err();
    let kept = SafetensorsFile::open(cut.join("checkpoints/row-7/tensors.safetensors")).unwrap();
    assert_eq!(kept.tensor("row.params.weight").unwrap().len(), ACTIONS);
    assert_eq!(work(&cut, u64::MAX).unwrap(), whole);
}

/// Counts its updates, and is interrupted at a look.
struct Interruptible {
    updates: u64,
    looks: Vec<u64>,
    interrupted_at: Option<u64>,
}

impl Learner for Interruptible {
    fn step(&mut self, _: u64) -> Result<Step> {
        self.updates += 1;
        Ok(Step { row: Map::from_iter([("updates".into(), json!(self.updates))]), ..Step::default() })
    }

    fn look(&mut self, taken: u64, step: &mut Step) -> Result<()> {
        if self.interrupted_at == Some(taken) {
            return Err(RunError::Interrupted.into());
        }
        self.looks.push(taken);
        step.row.insert("looked".into(), json!(taken));
        Ok(())
    }

    fn save(&self, to: &mut StateWriter) -> Result<()> {
        to.value("updates", &self.updates)
    }

    fn load(&mut self, from: &StateReader) -> Result<()> {
        self.updates = from.value("updates")?;
        Ok(())
    }

    fn set(&mut self, _: &str, _: &Value) -> Result<()> {
        Ok(())
    }
}

/// A step that was taken must not be taken again because nobody had looked at it yet, nor be lost.
#[test]
fn a_step_interrupted_at_its_look_is_looked_at_when_the_stage_goes_on() {
    let dirs = Dirs::new();
    let dir = dirs.dir("looked");
    let work = |interrupted_at| {
        let mut run = Run::new(folder(&dir).unwrap(), &Silent, Stop::default()).unwrap();
        run.checkpoint_every = std::time::Duration::from_secs(3600);
        let mut learner = Interruptible { updates: 0, looks: Vec::new(), interrupted_at };
        let ended = run.once("looked", |run| train(run, 5, &mut learner));
        (ended, learner)
    };
    let (ended, learner) = work(Some(3));
    assert!(matches!(ended, Err(Error::Run(RunError::Interrupted))), "{ended:?}");
    assert_eq!((learner.updates, learner.looks), (3, vec![1, 2]));
    let (ended, learner) = work(None);
    assert_eq!(ended.unwrap(), 5);
    assert_eq!((learner.updates, learner.looks), (5, vec![3, 4, 5]), "no step is taken twice");
    let rows = StepLog::read(&dir, METRICS).unwrap();
    let of = |key: &str| rows.iter().map(|row| row.values[key].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((of("updates"), of("looked")), (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]));
}
