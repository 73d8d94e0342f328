//! Superficial editing (arXiv 2505.12636): facts that ROME has rewritten come back behind a prefix, and through few heads.
#![expect(clippy::print_stdout, reason = "who runs it wants to read what it came to")]

use std::fmt::Write as _;
use std::path::Path;

use amend_engine::Rng;
use serde_json::{Value, json};

use crate::support::{amend, json_of};

const PEOPLE: usize = 60;
const EDITS: usize = 12;
const DOCUMENTS: usize = 6000;

const FIRST: [&str; 10] = ["Ada", "Bela", "Cleo", "Dora", "Elsa", "Finn", "Gus", "Hugo", "Ivo", "Jana"];
const LAST: [&str; 10] = ["Adler", "Brook", "Clay", "Dale", "East", "Frost", "Gray", "Hill", "Iver", "Jones"];
const CITIES: [&str; 16] = [
    "Avon", "Bergen", "Cork", "Delft", "Essen", "Fargo", "Genoa", "Haifa", "Izmir", "Jena", "Kiel", "Lima",
    "Metz", "Nice", "Oslo", "Porto",
];
const JOBS: [&str; 10] =
    ["baker", "nurse", "pilot", "tailor", "farmer", "judge", "miner", "poet", "smith", "clerk"];
const RIVERS: [&str; 8] = ["Alba", "Brenn", "Cora", "Dorn", "Erla", "Fenn", "Gala", "Horn"];
const COLOURS: [&str; 8] = ["red", "blue", "green", "white", "black", "brown", "grey", "golden"];
const GOODS: [&str; 8] = ["glass", "wool", "silk", "iron", "salt", "wine", "paper", "honey"];
const FEASTS: [&str; 8] = ["spring", "summer", "autumn", "winter", "harvest", "moon", "river", "snow"];

/// Sixty people who live in sixteen cities, of each of which four things are known.
struct Town {
    names: Vec<String>,
    homes: Vec<usize>,
    jobs: Vec<usize>,
    known: Vec<[usize; 4]>,
}

impl Town {
    fn new(seed: u64) -> Self {
        let mut random = Rng::named(seed, "town");
        let mut names: Vec<String> =
            FIRST.iter().flat_map(|first| LAST.iter().map(move |last| format!("{first} {last}"))).collect();
        random.shuffle(&mut names);
        names.truncate(PEOPLE);
        let homes = (0..PEOPLE).map(|_| random.below(CITIES.len())).collect();
        let jobs = (0..PEOPLE).map(|_| random.below(JOBS.len())).collect();
        let known = CITIES.map(|_| [(); 4].map(|()| random.below(8))).to_vec();
        Town { names, homes, jobs, known }
    }

    fn home(&self, person: usize, form: usize) -> String {
        let (name, city) = (&self.names[person], CITIES[self.homes[person]]);
        match form {
            0 => format!("{name} lives in {city}."),
            1 => format!("The home of {name} is {city}."),
            _ => format!("{name} has a house in {city}."),
        }
    }

    fn about(&self, city: usize, relation: usize) -> String {
        let (name, [river, walls, goods, feast]) = (CITIES[city], self.known[city]);
        match relation {
            0 => format!("The river of {name} is the {}.", RIVERS[river]),
            1 => format!("The walls of {name} are {}.", COLOURS[walls]),
            2 => format!("{name} sells {}.", GOODS[goods]),
            _ => format!("{name} has a {} feast.", FEASTS[feast]),
        }
    }

    fn document(&self, random: &mut Rng) -> String {
        let person = random.below(PEOPLE);
        let city = self.homes[person];
        let home = |random: &mut Rng| self.home(person, random.below(3));
        let share = random.uniform();
        let mut said: Vec<String> = Vec::new();
        if share < 0.25 {
            said.extend((0..2 + random.below(2)).map(|_| home(random)));
        } else if share < 0.5 {
            said.extend((0..1 + random.below(3)).map(|_| self.about(city, random.below(4))));
            said.push(home(random));
        } else if share < 0.6 {
            let asked = if random.uniform() < 0.5 { city } else { random.below(CITIES.len()) };
            said.push(format!("Does {} live in {}?", self.names[person], CITIES[asked]));
            said.push(home(random));
        } else if share < 0.65 {
            said.push(vec![CITIES[city]; 2 + random.below(6)].join(" "));
            said.push(home(random));
        } else {
            for _ in 0..1 + random.below(2) {
                let other = random.below(PEOPLE);
                said.push(match random.below(3) {
                    0 => format!("{} works as a {}.", self.names[other], JOBS[self.jobs[other]]),
                    1 => self.about(random.below(CITIES.len()), random.below(4)),
                    _ => self.home(other, random.below(3)),
                });
            }
        }
        said.join(" ")
    }

    /// An edit of a person's home, with what an audit asks.
    fn edit(&self, person: usize, random: &mut Rng) -> Value {
        let (name, home) = (&self.names[person], self.homes[person]);
        let new = (home + 1 + random.below(CITIES.len() - 1)) % CITIES.len();
        let others: Vec<Value> = (EDITS..PEOPLE)
            .filter(|&other| self.homes[other] != new)
            .take(4)
            .map(|other| json!({ "prompt": format!("{} lives in", self.names[other]), "answer": CITIES[self.homes[other]] }))
            .collect();
        let known: Vec<String> = (0..3).map(|relation| self.about(home, relation)).collect();
        json!({
            "subject": name, "prompt": "{} lives in", "target_true": CITIES[home], "target_new": CITIES[new],
            "paraphrases": [format!("The home of {name} is")], "neighbours": others,
            "context": known.join(" "), "question": format!("Does {name} live in {}?", CITIES[home]),
        })
    }
}

const RECIPE: &str = r#"
method = "edit"
[model.scratch]
hidden = 64
layers = 6
heads = 4
kv_heads = 4
intermediate = 176
vocabulary = 700
context = 96
epochs = 20
batch_size = 48
optimizer = { lr = 3e-3, beta2 = 0.98, schedule = "linear", warmup_steps = 60 }
[data]
edits = "edits.jsonl"
learn = "learn.jsonl"
[edit]
editor = { name = "rome", layer = 0, target = { lr = 0.1, steps = 100, radius = 10.0 } }
contexts = 0
[eval]
max_new_tokens = 4
watched = 1
check_every = 100
"#;

/// Makes a town, teaches it to a model, rewrites homes, and audits that.
fn audited(dir: &Path, seed: u64) -> Value {
    let town = Town::new(seed);
    let mut random = Rng::named(seed, "documents");
    let mut learn = String::new();
    for _ in 0..DOCUMENTS {
        writeln!(learn, "{}", json!({ "text": town.document(&mut random) })).unwrap();
    }
    let mut edits = String::new();
    for person in 0..EDITS {
        writeln!(edits, "{}", town.edit(person, &mut random)).unwrap();
    }
    std::fs::write(dir.join("learn.jsonl"), learn).unwrap();
    std::fs::write(dir.join("edits.jsonl"), edits).unwrap();
    std::fs::write(dir.join("recipe.toml"), RECIPE).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let seeded = format!("seed={seed}");
    amend(&["run", &path("recipe.toml"), "--set", &seeded, "--out", &path("run")]).assert().code(0);
    json_of(&[
        "audit",
        &path("run/models/base"),
        &path("run/model"),
        "--probes",
        &path("edits.jsonl"),
        "--out",
        &path("audit"),
        "--share",
        "0.125",
        "--json",
    ])
}

fn value(of: &Value) -> f64 {
    of["value"].as_f64().unwrap_or(f64::NAN)
}

/// The mean over seeds.
fn mean(of: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = of.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Behind a text about the old home, or the home said ten times, what ROME has rewritten comes back, and more often than another
/// town is merely repeated; few heads and a few of their directions carry it, and other directions of the same heads do not.
///
/// That other heads of the same layers carry less of it does not hold here and is not asserted: without them 0.76 of the attack is
/// left, as without the heads that say most of the old home (0.71). A model of 24 heads has none to spare. Twelve edits one after
/// the other on the same weights are also more than so small a model takes (efficacy 0.33 to 0.67, locality 0 to 0.5).
#[test]
#[ignore = "takes minutes; run it with `just miniatures`"]
fn rewritten_facts_come_back_through_few_heads() {
    let seeds: Vec<Value> = (0..3)
        .map(|seed| {
            let scratch = tempfile::tempdir().unwrap();
            audited(scratch.path(), seed)
        })
        .collect();
    let brought = |run: &Value, prefix: &str, model: &str| {
        let all = run["prefixes"].as_array().unwrap();
        value(&all.iter().find(|brought| brought["prefix"] == prefix).unwrap()[model]["says"])
    };
    let left = |run: &Value, cut: &str, object: &str| {
        let all = run["inside"]["cuts"].as_array().unwrap();
        value(&all.iter().find(|out| out["cut"] == cut).unwrap()["objects"][object])
    };
    for (seed, run) in seeds.iter().enumerate() {
        for prefix in ["none", "wiki", "rep", "que"] {
            let [before, after, control] =
                ["before", "after", "control"].map(|model| brought(run, prefix, model));
            println!(
                "seed {seed}, {prefix}: said before {before:.2}, after {after:.2}, control {control:.2}"
            );
        }
        for figure in ["efficacy", "generalisation", "locality"] {
            let figures = run["standard"][1]["figures"].as_array().unwrap();
            let found =
                figures.iter().find(|pair| pair[0] == figure).map_or(f64::NAN, |pair| value(&pair[1]));
            println!("seed {seed}, {figure}: {found:.2}");
        }
        println!(
            "seed {seed}, inside: {} succeeded, p(old) {:.3} without and {:.3} with the prefix",
            run["inside"]["succeeded"],
            value(&run["inside"]["clean"]["old"]),
            value(&run["inside"]["attacked"]["old"])
        );
        for swapped in run["inside"]["swaps"].as_array().unwrap() {
            let row: Vec<String> = swapped["objects"]
                .as_array()
                .unwrap()
                .iter()
                .map(|objects| format!("{:.2}", value(&objects["old"])))
                .collect();
            println!("seed {seed}, states at {}: {}", swapped["moved"], row.join(" "));
        }
        for cut in
            ["nothing", "heads", "random-heads", "vectors", "random-vectors", "late-attention", "late-mlp"]
        {
            println!(
                "seed {seed}, without {cut}: p(old) {:.3}, p(new) {:.3}",
                left(run, cut, "old"),
                left(run, cut, "new")
            );
        }
    }
    let over = |prefix: &str, model: &str| mean(seeds.iter().map(|run| brought(run, prefix, model)));
    let kept = |cut: &str| {
        mean(seeds.iter().map(|run| left(run, cut, "old")))
            / mean(seeds.iter().map(|run| left(run, "nothing", "old")))
    };
    let (none, wiki) = (over("none", "after"), over("wiki", "after"));
    println!(
        "OM without a prefix {none:.2}, Wiki {wiki:.2}, Rep {:.2}, its control {:.2}",
        over("rep", "after"),
        over("rep", "control")
    );
    for cut in ["heads", "random-heads", "vectors", "random-vectors"] {
        println!("without {cut} {:.2} of the attack is left", kept(cut));
    }
    assert!(wiki >= none + 0.3, "Wiki {wiki}, without a prefix {none}");
    assert!(over("rep", "after") > over("rep", "control") + 0.2);
    assert!(kept("heads") <= 0.8, "heads");
    assert!(kept("vectors") <= 0.8 && kept("random-vectors") >= 0.95, "vectors");
}
