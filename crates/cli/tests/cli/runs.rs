//! Runs: from a recipe to a report, interrupted and resumed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{TINY_RUN, amend, fails, json_of, stdout};

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) recipe: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("tiny.toml");
        fs::write(&recipe, TINY_RUN).unwrap();
        Bench { recipe: recipe.to_str().unwrap().to_owned(), folder }
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn run_to(bench: &Bench, out: &Path, more: &[&str]) -> Vec<u8> {
    let args = [&["run", &bench.recipe, "--out", out.to_str().unwrap()], more].concat();
    let output = amend(&args).assert().get_output().clone();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(crate) fn status(dir: &Path) -> Option<String> {
    let state: Value = serde_json::from_str(&fs::read_to_string(dir.join("run.json")).ok()?).ok()?;
    state["status"].as_str().map(str::to_owned)
}

#[test]
fn what_was_never_known_is_not_called_forgotten() {
    let bench = Bench::new();
    let out = bench.out("unknown");
    let args = ["run", &bench.recipe, "--out", out.to_str().unwrap(), "--json", "--set", "stop.below=0.99"];
    let output = amend(&args).assert().code(1).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("met before the first step"));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["passed"], &result["results"]["known_before"]), (&false.into(), &false.into()));
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("There was nothing to forget"));
}

/// The error spoke of a missing config.json.
#[test]
fn a_run_is_no_model_but_has_some() {
    let bench = Bench::new();
    let [one, two] = ["one", "two"].map(|name| bench.out(name));
    run_to(&bench, &one, &[]);
    run_to(&bench, &two, &["--set", "compare=[{ combine = \"sum\" }]"]);
    let [one, two] = [&one, &two].map(|dir| dir.to_str().unwrap());
    let target = bench.out("target");
    let commands: [&[&str]; 5] = [
        &["score", one, "--text", "a"],
        &["generate", one, "--prompt", "a"],
        &["chat", one],
        &["embed", one, "--text", "a"],
        &["convert", one, target.to_str().unwrap()],
    ];
    let model = format!("{one}/model");
    for command in commands {
        fails(command, &["is the folder of a run, not a model", &model]);
    }
    let several = ["score", two, "--text", "a"];
    let models: Vec<String> = fs::read_dir(Path::new(two).join("models"))
        .unwrap()
        .map(|entry| format!("\n  {}", entry.unwrap().path().display()))
        .collect();
    assert!(models.len() > 1);
    fails(&several, &models.iter().map(String::as_str).collect::<Vec<_>>());
    let data = bench.out("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("wiki.test.tokens"), " = One = \n the cat \n").unwrap();
    let eval = ["eval", "--task", "wikitext", "--data", data.to_str().unwrap(), "--model", one];
    fails(&eval, &["is the folder of a run, not a model", &model]);
}

#[test]
fn what_is_missing_is_pointed_at_in_the_recipe() {
    let bench = Bench::new();
    let recipe = bench.out("missing.toml");
    fs::write(
        &recipe,
        "method = \"unlearn\"\n[model]\npath = \"no-model\"\n[data]\nforget = \"no.jsonl\"\nretain = \"no.jsonl\"\n",
    )
    .unwrap();
    let run = ["run", recipe.to_str().unwrap(), "--out", "x"];
    fails(&run, &["`model.path` = \"no-model\": there is no such model", "missing.toml:3:8", "hint: "]);
    let scratch = crate::support::Scratch::new();
    let model = format!("model.path={}", scratch.arg());
    let run = [&run[..], &["--set", &model]].concat();
    fails(&run, &["`data.forget` = \"no.jsonl\": there is no such file", "missing.toml:5:10"]);
    let run = [&run[..], &["--set", "data.forget=other.jsonl"]].concat();
    fails(
        &run,
        &["missing.toml: --set data.forget=other.jsonl: ", "= \"other.jsonl\": there is no such file"],
    );
}

#[test]
fn computing_twice_changes_no_bit_and_bf16_changes_some() {
    let bench = Bench::new();
    let weights = |name: &str, set: &str| {
        let out = bench.out(name);
        run_to(&bench, &out, &["--set", set]);
        fs::read(out.join("model/model.safetensors")).unwrap()
    };
    let plain = weights("plain", "engine.dtype=f32");
    assert!(plain == weights("again", "engine.activation_checkpointing=true"));
    assert!(plain != weights("bf16", "engine.dtype=bf16"));
}

#[test]
fn a_run_leaves_everything_behind_and_tells_where() {
    let bench = Bench::new();
    let out = bench.out("first");
    let result: Value = serde_json::from_slice(&run_to(&bench, &out, &["--json"])).unwrap();
    assert_eq!(result["folder"].as_str(), out.to_str());
    assert!(result["passed"].is_boolean() && result["results"]["arms"].is_array());
    for file in ["recipe.toml", "run.json", "metrics.jsonl", "results.json", "report.html", "log.txt"] {
        assert!(out.join(file).exists(), "{file}");
    }
    let model = out.join("model");
    let scored = json_of(&["score", model.to_str().unwrap(), "--text", "Who is that?", "--json"]);
    assert!(scored["mean_nll"].is_number());
    let state: Value = serde_json::from_str(&fs::read_to_string(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(state["status"], "done");
    assert!(state["commit"].as_str().is_some_and(|commit| !commit.is_empty()));

    let report = out.join("report.html");
    let html = fs::read(&report).unwrap();
    fs::remove_file(&report).unwrap();
    let told = stdout(&["report", out.to_str().unwrap()]);
    assert!(told.contains("verdict") && told.contains("report.html"), "{told}");
    assert!(fs::read(&report).unwrap() == html, "the report is the same when it is written anew");
    assert_eq!(json_of(&["report", out.to_str().unwrap(), "--json"])["results"], result["results"]);

    // The command at its end repeats the run from anywhere.
    let page = String::from_utf8(html).unwrap();
    let command = page.split("<code>amend ").last().unwrap().split("</code>").next().unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    let elsewhere = tempfile::tempdir().unwrap();
    let repeated = amend(&words).current_dir(elsewhere.path()).output().unwrap();
    assert!(matches!(repeated.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&repeated.stderr));
    let results =
        |dir: &Path| fs::read_to_string(dir.join("results.json")).unwrap().replace("first-again", "first");
    assert_eq!(results(&bench.out("first-again")), results(&out));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "nothing is left elsewhere");

    let arg = out.to_str().unwrap();
    fails(&["resume", arg], &[arg, "finished"]);
    fails(&["run", &bench.recipe, "--out", arg], &[arg, "exists"]);
    let overwritten: Value =
        serde_json::from_slice(&run_to(&bench, &bench.out("first-again"), &["--overwrite", "--json"]))
            .unwrap();
    assert_eq!(overwritten["results"]["arms"], result["results"]["arms"]);
    let own = format!("model.path={arg}/model");
    fails(&["run", &bench.recipe, "--out", arg, "--overwrite", "--set", &own], &["read by the recipe"]);
    assert!(out.join("model/model.safetensors").exists());
    let strange = bench.out("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("thesis.tex"), "years").unwrap();
    let strange = strange.to_str().unwrap();
    fails(&["run", &bench.recipe, "--out", strange, "--overwrite"], &[strange, "exists"]);
    // The resolved recipe is a recipe, and the same one.
    let again = bench.out("again");
    let resolved = out.join("recipe.toml");
    let args = ["run", resolved.to_str().unwrap(), "--out", again.to_str().unwrap(), "--quiet"];
    let second = amend(&args).assert().get_output().clone();
    assert!(second.stderr.is_empty());
    assert_eq!(fs::read(again.join("recipe.toml")).unwrap(), fs::read(&resolved).unwrap());
    same_run(&out, &again);
}

/// Two runs of the same recipe agree in every bit of what they computed: each step, each model, each figure.
fn same_run(one: &Path, other: &Path) {
    let same = |file: &Path| {
        let [one, other] = [one, other].map(|run| fs::read(run.join(file)).unwrap());
        assert!(one == other, "{} differs", file.display());
    };
    same(Path::new("metrics.jsonl"));
    let models = fs::read_dir(one.join("models")).into_iter().flatten().map(|e| e.unwrap().path());
    for model in models.chain([one.join("model")]).filter(|dir| dir.join("model.safetensors").exists()) {
        same(&model.strip_prefix(one).unwrap().join("model.safetensors"));
    }
    // Results name the folder that each model is in.
    let results = |run: &Path| {
        let text = fs::read_to_string(run.join("results.json")).unwrap();
        text.replace(run.to_str().unwrap(), "")
    };
    assert!(results(one) == results(other), "results.json differs");
}

/// A run without a step has nothing that it watched. That was written as null and could not be read again.
#[test]
fn a_run_without_a_step_can_be_reported() {
    let bench = Bench::new();
    let out = bench.out("no-step");
    let result: Value =
        serde_json::from_slice(&run_to(&bench, &out, &["--json", "--set", "stop.max_steps=0"])).unwrap();
    let arg = out.to_str().unwrap();
    assert_eq!(json_of(&["report", arg, "--json"])["results"], result["results"]);
    assert!(stdout(&["report", arg]).contains("verdict"));
}

#[test]
fn seeds_are_repeated() {
    let bench = Bench::new();
    let result: Value =
        serde_json::from_slice(&run_to(&bench, &bench.out("seeds"), &["--seeds", "2", "--json"])).unwrap();
    assert_eq!(result["results"]["seeds"].as_array().unwrap().len(), 2);
}

#[test]
fn the_default_folder_has_the_recipes_name_and_the_time() {
    let bench = Bench::new();
    let output =
        amend(&["run", &bench.recipe]).current_dir(bench.folder.path()).assert().get_output().clone();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Vec<_> = fs::read_dir(bench.out("runs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(made.len(), 1);
    let name = made[0].to_str().unwrap();
    assert!(name.starts_with("tiny-2") && name.ends_with('Z'), "{name}");
    // A run that is damaged is a run that somebody looks for.
    fs::write(bench.out("runs").join(name).join("run.json"), "{").unwrap();
    let listed = json_of(&["runs", bench.out("runs").to_str().unwrap(), "--json"]);
    assert_eq!((&listed["state"], &listed["started"]), (&"damaged".into(), &Value::Null));
}

/// The report said what the edited recipe says, of what the old one had done.
#[test]
fn a_recipe_that_was_edited_meanwhile_is_not_gone_on_with() {
    let bench = Bench::new();
    let out = bench.out("edited");
    run_to(&bench, &out, &["--set", "stop.max_steps=2"]);
    // As if it had been interrupted after its last stage.
    let state = fs::read_to_string(out.join("run.json")).unwrap();
    fs::write(out.join("run.json"), state.replace("\"status\": \"done\"", "\"status\": \"interrupted\""))
        .unwrap();
    let recipe = fs::read_to_string(out.join("recipe.toml")).unwrap();
    fs::write(out.join("recipe.toml"), recipe.replace("max_steps = 2", "max_steps = 3")).unwrap();
    let arg = out.to_str().unwrap();
    fails(&["resume", arg], &["recipe.toml was changed", "resume --set"]);
    fails(&["resume", arg, "--set", "stop.max_steps=4"], &["recipe.toml was changed"]);
    fs::write(out.join("recipe.toml"), recipe).unwrap();
    let code = amend(&["resume", arg]).assert().get_output().status.code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    // Evidence that somebody has removed is missed.
    fs::remove_dir_all(out.join("answers")).unwrap();
    let shown = amend(&["report", arg]).assert().get_output().stdout.clone();
    assert!(!shown.is_empty());
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("no longer in the run"), "the page says nothing of it");
}

/// Whoever reads the beginning alone has the verdict's exit code all the same.
#[cfg(unix)]
#[test]
fn a_reader_who_leaves_early_does_not_change_the_verdict() {
    let bench = Bench::new();
    let mut run = Command::new(env!("CARGO_BIN_EXE_amend"))
        .args(["run", &bench.recipe, "--out", bench.out("left").to_str().unwrap(), "-q"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(run.stdout.take());
    assert_eq!(run.wait().unwrap().code(), Some(1), "nothing was forgotten down to 0");
}

/// Resuming left "running" in run.json and nothing in the log, as if the run had been killed.
#[test]
fn a_resume_that_fails_at_once_leaves_a_failed_run_that_says_why() {
    let bench = Bench::new();
    for (name, damaged) in [("metrics", "metrics.jsonl"), ("recipe", "recipe.toml")] {
        let out = bench.out(name);
        drop(amend_run::RunFolder::create(&out, TINY_RUN, amend_run::RunInfo::default()).unwrap());
        assert_eq!(status(&out).as_deref(), Some("running"));
        // As earlier versions wrote it, which did not know what the recipe had been.
        let text = fs::read_to_string(out.join("run.json")).unwrap();
        let mut state: Value = serde_json::from_str(&text).unwrap();
        state.as_object_mut().unwrap().remove("recipe").unwrap();
        fs::write(out.join("run.json"), state.to_string()).unwrap();
        fs::write(out.join(damaged), "neither row\nnor recipe\n").unwrap();
        let arg = out.to_str().unwrap();
        fails(&["resume", arg], &[damaged]);
        assert_eq!(status(&out).as_deref(), Some("failed"), "{damaged}");
        let log = fs::read_to_string(out.join("log.txt")).unwrap();
        assert!(log.contains("error: ") && log.contains(damaged), "{log}");
        let told = stdout(&["report", arg]);
        assert!(told.contains("status   failed") && told.contains("amend resume"), "{told}");
        assert!(told.contains("ended by") && told.contains(damaged), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_cannot_begin_leaves_nothing_behind() {
    let bench = Bench::new();
    let file = bench.out("file");
    fs::write(&file, "").unwrap();
    let mut places = vec![file.join("run")];
    if cfg!(target_os = "linux") {
        // Nobody may write there, whoever runs the tests.
        places.push("/proc/amend-run".into());
    }
    for place in places {
        let arg = place.to_str().unwrap();
        fails(&["run", &bench.recipe, "--out", arg], &["cannot create", arg]);
        assert!(!place.exists());
    }
    let before = fs::read_dir(bench.folder.path()).unwrap().count();
    let out = bench.out("full");
    let message = with_files_of_at_most(0, &["run", &bench.recipe, "--out", out.to_str().unwrap()]);
    assert!(message.contains("error: cannot write") && message.contains("recipe.toml"), "{message}");
    assert!(!out.exists());
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), before);
}

/// What a disk does that has no room for more, as far as a process can be told so without one.
#[cfg(unix)]
fn with_files_of_at_most(blocks: usize, args: &[&str]) -> String {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let output =
        Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_amend")]).args(args).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(!message.contains("panicked") && !message.contains("bug of its own"), "{message}");
    message
}

#[cfg(unix)]
#[test]
fn a_run_that_finds_no_room_goes_on_once_there_is_some() {
    let bench = Bench::new();
    let [whole, cut] = ["whole", "cut"].map(|name| bench.out(name));
    run_to(&bench, &whole, &[]);
    let arg = cut.to_str().unwrap();
    let message = with_files_of_at_most(48, &["run", &bench.recipe, "--out", arg]);
    assert!(message.contains("cannot write") && message.contains("amend resume"), "{message}");
    assert_eq!(status(&cut).as_deref(), Some("failed"));
    let resumed = amend(&["resume", arg]).assert().get_output().clone();
    assert!(matches!(resumed.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&resumed.stderr));
    same_run(&whole, &cut);
}

/// Starts a run that takes long enough to be interrupted.
pub(crate) fn start(bench: &Bench, out: &Path, more: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_amend"))
        .args(["run", &bench.recipe, "--out", out.to_str().unwrap(), "--set", "model.scratch.epochs=60"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(120), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_with_the_same_bits() {
    let bench = Bench::new();
    let whole = bench.out("whole");
    run_to(&bench, &whole, &["--set", "model.scratch.epochs=60"]);

    let cut = bench.out("cut");
    let child = start(&bench, &cut, &[]);
    let logged = cut.join("metrics.jsonl");
    wait_until("some steps", || fs::metadata(&logged).is_ok_and(|file| file.len() > 2000));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("amend resume"), "{message}");
    assert_eq!(status(&cut).as_deref(), Some("interrupted"));
    let told = stdout(&["report", cut.to_str().unwrap()]);
    assert!(told.contains("interrupted") && told.contains("amend resume"), "{told}");

    // As if another version of the program had begun it: that is allowed, and said.
    let state = cut.join("run.json");
    let text = fs::read_to_string(&state).unwrap();
    let commit = serde_json::from_str::<Value>(&text).unwrap()["commit"].as_str().unwrap().to_owned();
    fs::write(&state, text.replacen(&commit, "0123456789ab", 1)).unwrap();
    let resumed = amend(&["resume", cut.to_str().unwrap()]).assert().get_output().clone();
    let message = String::from_utf8(resumed.stderr).unwrap();
    assert!(matches!(resumed.status.code(), Some(0 | 1)), "{message}");
    assert!(message.contains("several versions of amend") && message.contains("0123456789ab"), "{message}");
    assert!(stdout(&["report", cut.to_str().unwrap()]).contains("(0123456789ab), then "));
    assert_eq!(status(&cut).as_deref(), Some("done"));
    same_run(&whole, &cut);
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_too() {
    let bench = Bench::new();
    let dir = bench.out("killed");
    let mut child = start(&bench, &dir, &[]);
    let logged = dir.join("metrics.jsonl");
    wait_until("some steps", || fs::metadata(&logged).is_ok_and(|file| file.len() > 2000));
    let arg = dir.to_str().unwrap();
    fails(&["resume", arg], &[arg, "in use"]);
    fails(&["run", &bench.recipe, "--out", arg], &[arg, "exists"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = amend(&["resume", arg]).assert().get_output().clone();
    assert!(matches!(resumed.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(status(&dir).as_deref(), Some("done"));
}

/// Starts or resumes a run that writes checkpoints as often as it can, and says nothing.
fn silently(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_amend"))
        .args(args)
        .args(["--checkpoint-every", "0.001"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// How many steps of a stage are in the metrics.
fn steps_of(dir: &Path, stage: &str) -> usize {
    let logged = fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    logged.lines().filter(|line| line.contains(&format!("\"{stage}\""))).count()
}

/// Whether a stage is done.
fn is_done(dir: &Path, stage: &str) -> bool {
    let state: Value = serde_json::from_str(&fs::read_to_string(dir.join("run.json")).unwrap()).unwrap();
    state["stages"].get(stage).is_some()
}

/// Killed without warning at points nobody chose, again and again, while models are made, while arms unlearn and while
/// they are attacked, a run ends with the bits of one that ran through.
#[cfg(unix)]
#[test]
fn killed_at_random_points_a_run_ends_with_the_same_bits() {
    const STEPS: usize = 60;
    let bench = Bench::new();
    let sets = [
        "--set",
        "compare=[{ combine = \"sum\", guard = \"sam\" }, { forget = \"npo\", where = \"lora\" }]",
        "--set",
        "unlearn.attack=[{ name = \"relearn\", steps = 60, batch_size = 4, every = 7 }]",
        "--set",
        "stop.max_steps=60",
        "--set",
        "stop.check_every=7",
    ];
    let whole = bench.out("whole");
    run_to(&bench, &whole, &sets);

    let cut = bench.out("cut");
    let arg = cut.to_str().unwrap();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut random = amend_engine::Rng::at(&[u64::from(seed)]);
    let mut child = silently(&[&["run", &bench.recipe, "--out", arg][..], &sets[..]].concat());
    let stages = [
        "base",
        "sum-sam-unlearn",
        "sum-sam-relearn",
        "npo-lora-unlearn",
        "npo-lora-relearn",
        "gold-relearn",
    ];
    let mut interrupted = 0;
    for stage in stages {
        let after = 1 + random.below(STEPS / 2);
        wait_until(stage, || {
            steps_of(&cut, stage) >= after || cut.join("run.json").exists() && is_done(&cut, stage)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        interrupted += usize::from(!is_done(&cut, stage));
        child = silently(&["resume", arg]);
    }
    child.wait().unwrap();
    assert_eq!(status(&cut).as_deref(), Some("done"), "seed {seed}");
    // Steps are short, so that one stage or the other may be over before the kill comes.
    assert!(interrupted >= 3, "only {interrupted} stages were interrupted (seed {seed})");
    same_run(&whole, &cut);
}
