//! Adapters that begin somewhere, in whole runs.

use std::path::Path;

use amend_engine::Model;
use amend_engine::models::Adapter;
use amend_learn::Error;
use amend_run::{Program, RunError, RunFolder, Silent, StepLog, Stop, StopAt};

use crate::support::{carry_out, create, recipe, run};

fn rows(folder: &tempfile::TempDir, stage: &str) -> Vec<amend_run::step_log::StepRow> {
    let mut rows = StepLog::read(&folder.path().join("run"), amend_run::step_log::METRICS).unwrap();
    rows.retain(|row| row.stage == stage);
    rows
}

/// The folder beside the merged model is an adapter of rank 2r for the model that was never touched.
#[test]
fn the_written_adapter_belongs_to_the_untouched_model() {
    for place in ["reglu", "fila"] {
        let fill = format!("unlearn.where={{ name = \"{place}\", r = 3, alpha = 6.0 }}");
        let (outcome, folder) = run(&[&fill, "unlearn.attack=[]"]);
        let merged = outcome.seeds[0].arms[0].model.as_ref().unwrap();
        let adapter = Adapter::open(merged.with_file_name("model-adapter")).unwrap();
        let base = folder.path().join("run/models/base");
        assert_eq!(Path::new(adapter.base_model.as_ref().unwrap()), base.canonicalize().unwrap());
        let mut model = Model::open(&base).unwrap();
        model.attach_adapter(&adapter).unwrap();
        let (ours, theirs) = (model.merged().unwrap(), Model::open(merged).unwrap());
        let mut changed = 0;
        for ((_, one), (_, other)) in ours.params.iter().zip(theirs.params.iter()) {
            assert!(one.tensor.f32() == other.tensor.f32(), "{place}: {}", one.name);
            let before = model.params.get(model.params.find(&one.name).unwrap());
            changed += usize::from(before.tensor.f32() != one.tensor.f32());
        }
        assert_eq!(changed, 2 * 7, "{place}: every linear layer of two blocks");
        let tensor = &adapter.tensors["model.layers.0.mlp.up_proj.lora_B.weight"];
        assert_eq!(tensor.shape(), [48, 6]);
    }
}

/// What is logged is explained, ROL falls where it alone pulls, and the report shows layer by layer where the adapter writes.
#[test]
fn orthogonality_falls_and_is_shown() {
    let place = "unlearn.where={ name = \"reglu\", r = 2, alpha = 4.0, init = \"retain\", rol = 5.0 }";
    let sets = [place, "unlearn.attack=[]", "stop.max_steps=8", "optimizer.lr=3e-3", "unlearn.combine=sum"];
    let (outcome, folder) = run(&sets);
    let rows = rows(&folder, &format!("{}-unlearn", outcome.arms[0].name));
    let rol: Vec<f64> = rows.iter().map(|row| row.values["loss_rol"].as_f64().unwrap()).collect();
    assert!((rol[0] - 2.0 * 14.0).abs() < 1e-3, "{rol:?}");
    assert!(rol.windows(2).all(|two| two[1] < two[0]), "{rol:?}");
    let docs: String = amend_unlearn::methods().map(|m| m.doc()).collect();
    for key in ["loss_rol", "forget_energy", "retain_energy"] {
        assert!(rows[0].values.contains_key(key), "{key}");
        assert!(docs.contains(&format!("`{key}`")), "no method explains {key}");
    }
    let energies = &outcome.seeds[0].arms[0].unlearned.energies;
    assert_eq!(energies.len(), 14);
    assert!(energies.iter().all(|[before, after]| before.retain > after.retain), "{energies:?}");
    let page = amend_unlearn::report(&outcome, &folder.path().join("run")).unwrap().to_html();
    for part in ["Where the adapter writes", "model.layers.1.self_attn.o_proj", "retain energy"] {
        assert!(page.contains(part), "no {part:?} in the report");
    }
}

/// Every rule sees ROL in the retain gradient: without it, another model.
#[test]
fn every_rule_honours_orthogonality() {
    let arm = |rule: &str, rol: f32| {
        let place = format!("{{ name = \"reglu\", r = 2, rol = {rol:?}, init = \"random\" }}");
        format!("{{ name = \"{rule}-{rol}\", combine = \"{rule}\", where = {place} }}")
    };
    let rules = ["sum", "pcgrad", "blur", "sago"];
    let arms: Vec<_> = rules.iter().flat_map(|rule| [arm(rule, 0.0), arm(rule, 2.0)]).collect();
    let (outcome, folder) = run(&[&format!("compare=[{}]", arms.join(", ")), "unlearn.attack=[]"]);
    for pair in outcome.seeds[0].arms.chunks(2) {
        let last = |arm: &str| {
            let rows = rows(&folder, &format!("{arm}-unlearn"));
            rows.last().unwrap().values["loss_rol"].as_f64().unwrap()
        };
        let [free, held] = [last(&pair[0].name), last(&pair[1].name)];
        assert!(held < free, "{}: {held}, and without ROL {free}", pair[1].name);
    }
}

/// The start is made again from the original model, and is the same.
#[test]
fn a_run_interrupted_in_an_arm_ends_with_the_same_bits() {
    let sets = [
        "compare=[{ where = { name = \"reglu\", r = 4, sequences = 5 } }, { where = { name = \"fila\", r = 4 } }]",
        "unlearn.attack=[]",
        "stop.max_steps=6",
    ];
    let loaded = recipe(&sets);
    let scratch = tempfile::tempdir().unwrap();
    let (whole, cut) = (scratch.path().join("whole"), scratch.path().join("cut"));
    let through = carry_out(create(&whole, &loaded), &loaded, &Silent, Stop::default()).unwrap();
    drop(create(&cut, &loaded));
    let open = || RunFolder::open(&cut, Program::default()).unwrap();
    for (stage, step) in [("reglu-unlearn", 2), ("reglu-unlearn", 5), ("fila-unlearn", 3)] {
        let stop = Stop::default();
        let ended = carry_out(open(), &loaded, &StopAt::new(stage, step, &stop), stop.clone());
        assert!(matches!(ended, Err(Error::Run(RunError::Interrupted))), "{stage} {step}");
    }
    let resumed = carry_out(open(), &loaded, &Silent, Stop::default()).unwrap();
    for file in [
        "metrics.jsonl",
        "models/reglu/model.safetensors",
        "models/reglu-adapter/adapter_model.safetensors",
        "models/fila/model.safetensors",
    ] {
        let [one, other] = [&whole, &cut].map(|dir| std::fs::read(dir.join(file)).unwrap());
        assert!(one == other, "{file} differs");
    }
    let energies = |outcome: &amend_unlearn::Outcome| outcome.seeds[0].arms[0].unlearned.energies.clone();
    assert_eq!(energies(&through), energies(&resumed));
}
