//! Every registered method is documented, runs, and makes a difference; and methods go together.

use amend_run::{RecipeSource, Silent, Stop, load, missing_headings};
use amend_unlearn::UnlearnRecipe;

use crate::support::{RECIPE, carry_out, create, recipe, run};

#[test]
fn every_method_is_documented() {
    for method in amend_unlearn::methods() {
        let missing = missing_headings(&method.doc());
        assert!(missing.is_empty(), "{}/{} lacks {missing:?}", method.slot(), method.name());
    }
}

/// Slots that an arm fills; the others are the same for all arms of a run.
const OF_ARMS: [&str; 5] = ["forget", "retain", "combine", "where", "guard"];

/// The fillers of a slot.
pub(crate) fn fillers(slot: &str) -> Vec<&'static str> {
    amend_unlearn::methods().filter(|m| m.slot() == slot).map(|m| m.name()).collect()
}

/// A comparison of arms, each of which fills some slots and is called after its fillers and where they are: some names are in
/// two slots.
fn compare(arms: &[Vec<(&str, &str)>]) -> String {
    let arm = |fills: &Vec<(&str, &str)>| {
        let called: Vec<_> = fills.iter().map(|(slot, name)| format!("{name}.{slot}")).collect();
        let fills: Vec<_> = fills.iter().map(|(slot, name)| format!("{slot} = \"{name}\"")).collect();
        format!("{{ name = \"{}\", {} }}", called.join("-"), fills.join(", "))
    };
    format!("compare=[{}]", arms.iter().map(arm).collect::<Vec<_>>().join(", "))
}

/// Every filler of every slot takes its steps, changes the model, and changes it otherwise than every other filler of
/// its slot: one that does nothing would leave the model that another leaves.
#[test]
fn every_method_runs_and_makes_a_difference() {
    for slot in OF_ARMS {
        // Without a retain objective only the sum is defined. With one, forgetting that hardly pulls on what is hardly known
        // would be lost in its gradient.
        let beside = |fills: &mut Vec<_>| {
            if slot != "combine" {
                fills.push(("combine", "sum"))
            }
            if slot == "forget" {
                fills.push(("retain", "none"))
            }
        };
        let arms: Vec<_> = fillers(slot)
            .into_iter()
            .map(|name| {
                let mut fills = vec![(slot, name)];
                beside(&mut fills);
                fills
            })
            .collect();
        let (outcome, _folder) = run(&[&compare(&arms), "unlearn.attack=[]"]);
        let results = &outcome.seeds[0].arms;
        assert_eq!(results.len(), arms.len());
        let weights: Vec<_> = results
            .iter()
            .map(|arm| std::fs::read(arm.model.as_ref().unwrap().join("model.safetensors")).unwrap())
            .collect();
        for (i, arm) in results.iter().enumerate() {
            assert_eq!(arm.unlearned.steps, 3, "{slot} {}", arm.name);
            assert!(arm.changes.iter().any(|c| c.change > 0.0), "{slot} {} changed nothing", arm.name);
            for other in 0..i {
                assert!(
                    weights[i] != weights[other],
                    "{slot}: {} and {} lead to the same model; one of them does nothing",
                    results[other].name,
                    arm.name
                );
            }
        }
    }
}

/// The objective that gives weights and no gradient.
const GIVES_WEIGHTS: (&str, &str) = ("forget", "task-vector");

/// Whether fillers go together with it.
fn goes(fills: &[(&str, &str)]) -> bool {
    let only =
        [("retain", "none"), ("combine", "sum"), ("guard", "none"), ("where", "all"), ("where", "layers")];
    // What an adapter adds to nothing is held; those two begin elsewhere.
    if fills.contains(&("guard", "mcu"))
        && (fills.contains(&("where", "reglu")) || fills.contains(&("where", "fila")))
    {
        return false;
    }
    !fills.contains(&GIVES_WEIGHTS) || fills.iter().all(|fill| *fill == GIVES_WEIGHTS || only.contains(fill))
}

/// What needs a gradient is refused by name beside an objective that gives none, and an adapter, which has nothing to move.
#[test]
fn a_task_vector_refuses_what_needs_a_gradient() {
    let base = ["unlearn.forget=task-vector", "unlearn.attack=[]"];
    let alone = ["unlearn.retain=none", "unlearn.combine=sum"];
    for (sets, part) in [
        (vec!["unlearn.combine=sum"], "retain = \"none\""),
        (vec!["unlearn.retain=none"], "combine = \"sum\""),
        ([&alone[..], &["unlearn.guard=sam"]].concat(), "guard = \"none\""),
        ([&alone[..], &["unlearn.where=lora"]].concat(), "where = \"all\""),
    ] {
        let refused = recipe(&[&base[..], &sets[..]].concat());
        let scratch = tempfile::tempdir().unwrap();
        let folder = create(&scratch.path().join("run"), &refused);
        let error =
            carry_out(folder, &refused, &Silent, Stop::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("task-vector"), "{error}");
    }
}

/// Fillers of different slots go together: every pair runs, or is refused before anything is computed.
#[test]
fn every_pair_of_methods_runs() {
    let mut arms = Vec::new();
    for (i, slot) in OF_ARMS.iter().enumerate() {
        for other in &OF_ARMS[i + 1..] {
            for name in fillers(slot) {
                arms.extend(fillers(other).into_iter().map(|partner| vec![(*slot, name), (*other, partner)]));
            }
        }
    }
    let single = |fills: &[(&str, &str)]| fills.contains(&("retain", "none"));
    let sum = |fills: &[(&str, &str)]| fills.contains(&("combine", "sum"));
    let combines = |fills: &[(&str, &str)]| fills.iter().any(|f| f.0 == "combine");
    let (refused, mut legal): (Vec<_>, Vec<_>) = arms
        .into_iter()
        .filter(|fills| goes(fills))
        .partition(|fills| single(fills) && combines(fills) && !sum(fills));
    assert_eq!(refused.len(), fillers("combine").len() - 1, "all but the sum");
    for fills in legal.iter_mut().filter(|fills| fills.contains(&GIVES_WEIGHTS) && !single(fills)) {
        fills.push(("retain", "none"));
    }
    for fills in legal.iter_mut().filter(|fills| single(fills) && !combines(fills)) {
        fills.push(("combine", "sum"));
    }
    let quick = ["unlearn.attack=[]", "stop.max_steps=1", "eval.limit=1", "eval.max_new_tokens=0"];
    let (outcome, _folder) = run(&[&[compare(&legal).as_str()][..], &quick[..]].concat());
    for arm in &outcome.seeds[0].arms {
        assert!(arm.unlearned.watched.value.is_finite(), "{}", arm.name);
        assert!(arm.changes.iter().any(|c| c.change > 0.0), "{} changed nothing", arm.name);
    }
}

/// What an attack needs beside the recipe that all others are tested with.
fn beside_attack(name: &str) -> Vec<&'static str> {
    match name {
        // Who says nothing true gives nothing away.
        "prompts" | "sampling" => {
            vec!["model.scratch.epochs=80", "model.scratch.context=160", "eval.max_new_tokens=12"]
        }
        "adapter-removal" => vec!["unlearn.where=lora"],
        "probe" => vec!["model.scratch.epochs=40", "data.world.people=16", "eval.limit=80"],
        "membership" => vec!["data.world.holdout=2"],
        _ => Vec::new(),
    }
}

#[test]
fn every_attack_attacks() {
    for name in fillers("attack") {
        let attacks = format!("unlearn.attack=[\"{name}\", \"{name}\"]");
        let (outcome, _folder) = run(&[&[attacks.as_str()], &beside_attack(name)[..]].concat());
        let seed = &outcome.seeds[0];
        let mut moved = false;
        for (stage, findings) in seed.arms[0].attacks.iter().chain(&seed.gold_findings) {
            assert!(!findings.reading.is_empty() && !findings.figures.is_empty(), "{stage}");
            assert!(
                findings.figures.iter().all(|(_, figure)| figure.value.is_finite()),
                "{stage}: {findings:?}"
            );
            assert!(name == "membership" || !findings.samples.is_empty(), "{stage}");
            let moves =
                |curve: &amend_unlearn::attack::Curve| curve.points.iter().any(|p| p.1 != curve.points[0].1);
            let differs = |(figure, before): &(String, amend_run::Figure)| {
                findings.figures.iter().any(|(name, after)| name == figure && after.value != before.value)
            };
            moved |= findings.curves.iter().any(moves) || findings.before.iter().any(differs);
            // Of prompts the plain one may be the most telling; then the others give away less.
            let (_, first) = &findings.figures[0];
            moved |=
                name == "prompts" && findings.figures.iter().any(|(_, figure)| figure.value != first.value);
        }
        // Membership is no figure that moves.
        assert!(moved || name == "membership", "{name} brought no model to move");
        let names: Vec<_> = seed.arms[0].attacks.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, [name.to_owned(), format!("{name}-2")]);
        let twice = |all: &[(String, amend_unlearn::attack::Findings)]| all[0].1 == all[1].1;
        assert!(twice(&seed.arms[0].attacks) && twice(&seed.gold_findings), "{name} is not the same twice");
    }
}

/// What an attack cannot do is said before anything is computed, with what would mend it.
#[test]
fn attacks_that_could_show_nothing_are_refused() {
    for (sets, words) in [
        (&["unlearn.attack=[\"membership\"]"][..], ["not computable, it needs a holdout", "`holdout`"]),
        (&["unlearn.attack=[\"adapter-removal\"]"], ["`where = \"all\"`", "use `where = \"lora\"`"]),
        (&["unlearn.attack=[\"prompts\"]", "eval.max_new_tokens=0"], ["`max_new_tokens` is 0", "prompts"]),
        (&["unlearn.attack=[\"sampling\"]", "eval.max_new_tokens=0"], ["`max_new_tokens` is 0", "sampling"]),
        (&["unlearn.attack=[{ name = \"quantise\", formats = [] }]"], ["quantise", "formats"]),
    ] {
        let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let error = match load::<UnlearnRecipe>(source, &sets) {
            Err(error) => error.to_string(),
            Ok(loaded) => {
                let scratch = tempfile::tempdir().unwrap();
                let folder = crate::support::create(&scratch.path().join("run"), &loaded);
                let (progress, stop) = (amend_run::Silent, amend_run::Stop::default());
                let refused = crate::support::carry_out(folder, &loaded, &progress, stop);
                refused.map(|_| ()).unwrap_err().to_string()
            }
        };
        assert!(words.iter().all(|word| error.contains(word)), "{sets:?}: {error}");
    }
}

/// Whatever an attacker learns from, the same items are watched from the same place on; learning them brings most back.
#[test]
fn an_attacker_may_learn_the_same_facts_or_something_else() {
    let attack = |on: &str| {
        format!(
            "{{ name = \"relearn\", on = \"{on}\", steps = 12, batch_size = 8, every = 4, optimizer = {{ lr = 3e-3 }} }}"
        )
    };
    let attacks = ["same", "unrelated", "disjoint"].map(attack).join(", ");
    let (outcome, _folder) = run(&[&format!("unlearn.attack=[{attacks}]"), "model.scratch.epochs=8"]);
    let attacks = &outcome.seeds[0].arms[0].attacks;
    let probability = |attack: usize| attacks[attack].1.figure("probability").unwrap().1.value;
    let start = |attack: usize| attacks[attack].1.curves[1].points[0].1;
    assert_eq!(start(0), start(1));
    assert!(probability(0) > probability(1) && probability(0) > start(0), "{attacks:?}");
    let titles: std::collections::BTreeSet<_> =
        attacks.iter().map(|(_, found)| &found.curves[0].title).collect();
    assert_eq!(titles.len(), 3);
    assert!(attacks[1].1.weak.is_none(), "what is not there to be learnt is not learnt weakly");
}

#[test]
fn every_logged_value_is_explained() {
    let of = |slot| fillers(slot).into_iter().map(move |name| vec![(slot, name), ("combine", "sum")]);
    let alone = of("forget").map(|fills| [fills, vec![("retain", "none")]].concat());
    let arms: Vec<_> = of("guard").chain(of("retain")).chain(alone).collect();
    let (_, folder) = run(&[&compare(&arms), "unlearn.attack=[]"]);
    let rows = amend_run::StepLog::read(&folder.path().join("run"), amend_run::step_log::METRICS).unwrap();
    let docs: String = amend_unlearn::methods().map(|m| m.doc()).collect();
    let stages = rows.iter().filter(|r| r.stage.ends_with("-unlearn"));
    let logged: std::collections::BTreeSet<_> = stages.flat_map(|r| r.values.keys()).collect();
    assert!(logged.len() > 10, "{logged:?}");
    // The loop's own and the looks' are explained beside the code that logs them.
    let known = ["lr", "grad_norm", "forget_watched", "forget_accuracy", "retain_accuracy"];
    for key in logged.iter().filter(|key| !known.contains(&key.as_str())) {
        assert!(docs.contains(&format!("`{key}`")), "no method explains {key}");
    }
}

#[test]
fn chosen_layers_are_the_only_ones_to_change() {
    let (outcome, _folder) =
        run(&["unlearn.where={ name = \"layers\", layers = [1], modules = [\"down_proj\"] }"]);
    for change in &outcome.seeds[0].arms[0].changes {
        assert_eq!(
            change.change > 0.0,
            change.name == "model.layers.1.mlp.down_proj.weight",
            "{}",
            change.name
        );
    }
}

/// Hidden states behind a layer follow from nothing above it. That is said before anything is computed.
#[test]
fn misdirection_below_what_may_change_is_refused() {
    let refused = recipe(&[
        "unlearn.forget={ name = \"rmu\", layer = 0 }",
        "unlearn.where={ name = \"layers\", layers = [1], modules = [\"down_proj\"] }",
    ]);
    let scratch = tempfile::tempdir().unwrap();
    let folder = create(&scratch.path().join("run"), &refused);
    let error = carry_out(folder, &refused, &Silent, Stop::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`where`") && error.contains("`rmu`") && error.contains("layer"), "{error}");
    assert!(!scratch.path().join("run/models").exists(), "nothing was trained");
}

/// What minor components cannot be held or found for is refused with the reason, before anything is computed.
#[test]
fn what_cannot_leave_components_alone_is_refused() {
    for (set, key, words) in [
        ("unlearn.guard=mcu|unlearn.where=reglu", "guard", "where = \"reglu\" begins with something"),
        ("unlearn.guard=mcu|unlearn.where=fila", "guard", "where = \"fila\" begins with something"),
        ("unlearn.guard={ name = \"mcu\", minor = { projection = \"sequential\" } }", "guard", "orthonormal"),
        (
            "unlearn.guard=mcu|unlearn.where={ name = \"layers\", modules = [\"up_proj\"] }",
            "",
            "choose `down_proj`",
        ),
        (
            "unlearn.forget={ name = \"rmu\", minor = { k = 33 } }",
            "",
            "k = 33 of hidden states that have 32 components",
        ),
        (
            "unlearn.forget={ name = \"rmu\", layer = 2 }",
            "",
            "`layer = 2` of a model whose layers are 0 to 1",
        ),
        (
            "unlearn.forget={ name = \"mlp-breaking\", layers = [0, 7] }",
            "",
            "layer 7 of a model whose layers are 0 to 1",
        ),
        (
            "unlearn.retain={ name = \"mlp-breaking\", layer = 2 }",
            "",
            "`layer = 2` of a model whose layers are 0 to 1",
        ),
        (
            "unlearn.attack=[{ name = \"relearn\", components = { layer = 5 } }]",
            "",
            "names layer 5 of a model",
        ),
        (
            "unlearn.attack=[{ name = \"relearn\", early_layers = 3 }]",
            "",
            "`early_layers = 3` of a model of 2 layers",
        ),
        ("data.attack=T.jsonl", "data", "a `world` has an attacker's part of its own"),
    ] {
        let sets: Vec<&str> = set.split('|').collect();
        let refused = recipe(&sets);
        let scratch = tempfile::tempdir().unwrap();
        let folder = create(&scratch.path().join("run"), &refused);
        let error =
            carry_out(folder, &refused, &Silent, Stop::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(key), "{set}: {error}");
        assert!(!scratch.path().join("run/models").exists(), "{set}: something was trained");
    }
}

/// The components that were left alone lie beside the model, and a report shows what became of them.
#[test]
fn components_are_kept_with_the_run_and_shown() {
    let attack = "unlearn.attack=[{ name = \"relearn\", epochs = 2, batch_size = 4, learns = \"text\", weights = \"mlp\", \
                  early_layers = 1, choice = true, components = { layer = 1, k = 5 } }]";
    let arms = "compare=[{ name = \"rmu\", forget = \"rmu\" }, \
                { name = \"minor\", forget = { name = \"rmu\", layer = 1, tokens = \"subject\", minor = { k = 3, tokens = \"subject\" } } }, \
                { name = \"filter\", guard = \"mcu\" }, { name = \"adapter\", guard = \"mcu\", where = \"lora\" }, \
                { name = \"breaking\", forget = \"mlp-breaking\", retain = \"mlp-breaking\", guard = \"mcu\" }]";
    let (outcome, folder) = run(&[attack, arms, "unlearn.combine=sum"]);
    let arms = &outcome.seeds[0].arms;
    for (arm, sites) in arms.iter().zip([&[][..], &[1], &[0, 1], &[0, 1], &[0]]) {
        let file =
            arm.model.as_ref().unwrap().with_file_name(format!("{}-minor/minor_basis.safetensors", arm.name));
        assert_eq!(file.exists(), !sites.is_empty(), "{}", arm.name);
        if sites.is_empty() {
            continue;
        }
        let kept = amend_engine::checkpoint::SafetensorsFile::open(&file).unwrap();
        let name = |layer: &usize| match arm.name.as_str() {
            "breaking" => format!("forget.blocks.{layer}.hook_mlp_out"),
            "minor" => format!("forget.blocks.{layer}.hook_resid_post"),
            _ => format!("guard.blocks.{layer}.hook_resid_post"),
        };
        // Of an objective and a guard that both leave components alone, both are kept.
        let of_guard = kept.names().filter(|name| name.starts_with("guard.")).count();
        let of_forget = kept.names().filter(|name| name.starts_with("forget.")).count();
        let expected = match arm.name.as_str() {
            "breaking" => [3, 6],
            "minor" => [3, 0],
            _ => [0, 6],
        };
        assert_eq!([of_forget, of_guard], expected, "{}", arm.name);
        for site in sites.iter().map(name) {
            let k = if arm.name == "minor" { 3 } else { 8 };
            kept.tensor_f32(&format!("{site}.components"), &[k, 32]).unwrap();
            kept.tensor_f32(&format!("{site}.mean"), &[32]).unwrap();
            let variances = kept.tensor_f32(&format!("{site}.eigenvalues"), &[32]).unwrap();
            assert!(variances.f32().is_sorted_by(|a, b| a >= b));
        }
    }
    for arm in arms {
        let found = &arm.attacks[0].1;
        assert_eq!(found.components.len(), 5);
        assert!(found.components.iter().any(|component| component.change.value > 0.0), "{}", arm.name);
        let rebound = found.figures.iter().any(|(name, _)| name == "renormalised probability, rebound");
        assert!(rebound, "{:?}", found.figures);
        // Two looks, and what was there before.
        assert_eq!(found.curves[0].points.len(), 3);
    }
    assert!(outcome.seeds[0].gold_findings[0].1.components.is_empty(), "it never moved away from the model");
    let page = amend_unlearn::report(&outcome, &folder.path().join("run")).unwrap().to_html();
    for part in [
        "Components of the hidden states of what is watched",
        "minor: recovery",
        "how far forgetting moved them",
    ] {
        assert!(page.contains(part), "no {part:?} in the report");
    }
}

/// The published setting: both halves at one layer, `down_proj` of the blocks up to it.
#[test]
fn misdirection_trains_as_its_authors_do() {
    let (outcome, _folder) = run(&[
        "unlearn.forget={ name = \"rmu\", layer = 1 }",
        "unlearn.retain={ name = \"rmu\", layer = 1 }",
        "unlearn.where={ name = \"layers\", layers = [0, 1], modules = [\"down_proj\"] }",
        "unlearn.combine=sum",
        "unlearn.attack=[]",
    ]);
    for change in &outcome.seeds[0].arms[0].changes {
        assert_eq!(change.change > 0.0, change.name.ends_with("mlp.down_proj.weight"), "{}", change.name);
    }
}

#[test]
fn an_adapter_is_written_beside_the_merged_model() {
    let (outcome, _folder) = run(&["unlearn.where=lora"]);
    let model = outcome.seeds[0].arms[0].model.as_ref().unwrap();
    assert!(model.join("model.safetensors").exists());
    let adapter = amend_engine::models::Adapter::open(model.with_file_name("model-adapter")).unwrap();
    assert_eq!(adapter.tensors.len(), 2 * 7 * 2);
}

#[test]
fn no_update_ever_opposes_retention() {
    let rules = ["sum", "pcgrad", "sago"].map(|rule| vec![("combine", rule)]);
    let (_, folder) = run(&[&compare(&rules), "stop.max_steps=8"]);
    let rows = amend_run::StepLog::read(&folder.path().join("run"), amend_run::step_log::METRICS).unwrap();
    let mut steps = 0;
    for row in rows.iter().filter(|r| r.stage.ends_with("-unlearn")) {
        let number = |key: &str| row.values[key].as_f64().unwrap();
        if row.stage.starts_with("sago") {
            assert_eq!(number("opposed"), 0.0, "step {}", row.step);
            steps += 1;
        }
        if !row.stage.starts_with("sum") {
            assert!(number("cos_update_retain") >= -1e-6, "{} step {}", row.stage, row.step);
        }
    }
    assert_eq!(steps, 8);
}

/// Numbers without a meaning are refused by name, before anything is divided by them.
#[test]
fn sizes_of_zero_are_refused() {
    for key in [
        "model.scratch.batch_size=0",
        "model.scratch.epochs=0",
        "model.scratch.heads=0",
        "unlearn.batch_size=0",
    ] {
        let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
        let error = load::<UnlearnRecipe>(source, &[key.to_owned()]).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("at least 1"), "{key}: {error}");
    }
    let source = RecipeSource { path: "smoke.toml".into(), text: RECIPE.into() };
    let zero = "unlearn.forget={ name = \"npo\", beta = 0.0 }".to_owned();
    assert!(load::<UnlearnRecipe>(source, &[zero]).is_err());
}

/// The report is written over what attacks and verdicts give: one that nobody has thought of yet is shown like any other.
#[test]
fn a_report_shows_attacks_and_claims_it_does_not_know() {
    let (mut outcome, folder) = run(&[]);
    let seed = &mut outcome.seeds[0];
    for (name, findings) in seed.arms[0].attacks.iter_mut().chain(&mut seed.gold_findings) {
        "invented".clone_into(name);
        findings.reading = "How it is read.".into();
        findings.curves[0].title = "A curve of its own".into();
        findings.figures[0].0 = "leakage".into();
    }
    outcome.arms[0].claims[2].name = "unheard of".into();
    let page = amend_unlearn::report(&outcome, &folder.path().join("run")).unwrap().to_html();
    for part in ["Attack: invented", "How it is read.", "A curve of its own", "leakage", "unheard of?"] {
        assert!(page.contains(part), "no {part:?} in the report");
    }
}
