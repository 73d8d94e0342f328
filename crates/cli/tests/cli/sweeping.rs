//! Grids of runs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::runs::{Bench, status, wait_until};
use crate::support::{amend, fails};

/// Takes up a sweep, and gives what it tells with its exit code.
fn sweep(args: &[&str]) -> (Value, i32) {
    let output = amend(&[&["sweep", "--json"], args].concat()).assert().get_output().clone();
    let told = serde_json::from_slice(&output.stdout);
    let code = output.status.code().unwrap();
    (told.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), code)
}

fn points(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("points")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_point_is_a_run_and_one_is_taken() {
    let bench = Bench::new();
    let dir = bench.out("sweep");
    let arg = dir.to_str().unwrap();
    let grid =
        ["--over", "optimizer.lr=1e-5,3e-2", "--over", "unlearn.forget=ga,{ name = \"npo\", beta = 0.2 }"];
    // One aim that a single step of the large rate comes down to, and no other.
    let new = [
        &[bench.recipe.as_str(), "--out", arg, "--set", "stop.below=0.2", "--set", "model.scratch.epochs=40"],
        &grid[..],
    ]
    .concat();
    let (told, code) = sweep(&new);
    assert_eq!(
        points(&dir),
        ["1-1e-5-ga", "2-1e-5-name-npo-beta-0.2", "3-3e-2-ga", "4-3e-2-name-npo-beta-0.2"]
    );
    assert!(
        points(&dir).iter().all(|point| status(&dir.join("points").join(point)).as_deref() == Some("done"))
    );
    let standings = told["points"].as_array().unwrap();
    assert_eq!(standings.len(), 4);
    assert!(standings.iter().all(|one| one["changed"]["value"].is_f64() && one["kept"]["value"].is_f64()));
    // At matched forgetting: the best of those that came down to the aim, if any did.
    let reached = || standings.iter().filter(|one| one["reached"] == true);
    let best = reached().filter_map(|one| one["kept"]["value"].as_f64()).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(
        (told["picked"].is_null(), code),
        if best.is_finite() { (false, 0) } else { (true, 1) },
        "{told}"
    );
    if best.is_finite() {
        assert_eq!(told["picked"]["kept"]["value"].as_f64(), Some(best), "{told}");
    }
    assert!(standings.iter().any(|one| one["group"] == "lr = 3e-2"));
    let page = fs::read_to_string(dir.join("sweep.html")).unwrap();
    for part in ["beaten by none", "points/3-3e-2-ga/report.html", "optimizer.lr"] {
        assert!(page.contains(part), "{part}");
    }
    // What is done is not done again, and another rule may pick another point.
    let before = fs::read_to_string(dir.join("points/1-1e-5-ga/run.json")).unwrap();
    let (again, code) = sweep(&[arg, "--pick", "budget", "--budget", "0"]);
    assert_eq!(fs::read_to_string(dir.join("points/1-1e-5-ga/run.json")).unwrap(), before);
    let value = |one: &Value| one["changed"]["value"].as_f64().unwrap();
    let least = standings.iter().map(value).fold(f64::INFINITY, f64::min);
    assert_eq!((value(&again["picked"]), code), (least, 0));
    // Its recipe starts where the original did.
    let text = fs::read_to_string(&bench.recipe).unwrap();
    assert_eq!(fs::read_to_string(dir.join("recipe.toml")).unwrap(), text);
    fails(&["sweep", arg, "--over", "seed=1,2"], &["goes on as it began", "recipe.toml"]);
    fails(&["sweep", &bench.recipe, "--out", arg], &["exists", "amend sweep"]);
}

#[test]
fn a_grid_with_a_mistake_begins_nothing() {
    let bench = Bench::new();
    let dir = bench.out("sweep");
    let arg = dir.to_str().unwrap();
    for (over, parts) in [
        ("optimizer.lr=1e-5,-1", ["--set optimizer.lr=-1", "0"]),
        ("optimizer.rl=1,2", ["rl", "did you mean"]),
        ("optimizer.lr", ["--over", "KEY=VALUE"]),
        ("seeds=1,1", ["--over", "twice"]),
        ("stop.max_steps=1,2", ["stop.max_steps", "at all points"]),
    ] {
        let all = ["--set", "stop.max_steps=3"];
        fails(&[&["sweep", &bench.recipe, "--out", arg, "--over", over], &all[..]].concat(), &parts);
        assert!(!dir.exists(), "{over}");
    }
    fails(&["sweep", &bench.recipe, "--budget", "0.9"], &["--budget", "--pick budget"]);
    fails(&["sweep", bench.folder.path().to_str().unwrap()], &["not a sweep", "sweep.json"]);
}

/// A point that fails is said to have, tried again, and no reason not to do the others.
#[test]
fn a_point_that_fails_does_not_end_the_others() {
    let bench = Bench::new();
    let dir = bench.out("sweep");
    let arg = dir.to_str().unwrap();
    let over = "unlearn.where=all,{ name = \"layers\", layers = [99] }";
    let new = ["--out", arg, "--over", over];
    let output =
        amend(&[&["sweep", bench.recipe.as_str()], &new[..]].concat()).assert().code(2).get_output().clone();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("layer 99") && told.contains("1 of the sweep's points failed"), "{told}");
    assert_eq!(status(&dir.join("points/1-all")).as_deref(), Some("done"));
    assert!(String::from_utf8(output.stdout).unwrap().contains("1-all"));
}

/// Two processes share a grid, and neither does what the other has.
#[cfg(unix)]
#[test]
fn a_sweep_is_shared_interrupted_and_gone_on_with() {
    let bench = Bench::new();
    let dir = bench.out("sweep");
    let arg = dir.to_str().unwrap();
    let command = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_amend"));
        command.arg("sweep").args(args).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let new = [bench.recipe.as_str(), "--out", arg, "--over", "seed=1,2,3", "--set", "stop.max_steps=3000"];
    let mut one = command(&new);
    let begun = |name: &str| status(&dir.join("points").join(name)).is_some();
    wait_until("the first point has begun", || begun("1-1"));
    let mut other = command(&[arg]);
    wait_until("the second point has begun", || begun("2-2"));
    assert!(!begun("3-3"));
    for process in [&mut one, &mut other] {
        let id = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    }
    assert_eq!([one, other].map(|mut process| process.wait().unwrap().code()), [Some(130); 2]);
    let state = |name: &str| status(&dir.join("points").join(name));
    assert_eq!([state("1-1").as_deref(), state("2-2").as_deref()], [Some("interrupted"); 2]);
    assert!(!begun("3-3"), "nothing is begun after that");
}
