//! What the numbers of a recipe may be.

use amend_run::recipe::schema_of;
use amend_run::{RecipeSource, load};
use amend_unlearn::UnlearnRecipe;
use serde_json::Value;

const RECIPE: &str = "method = \"unlearn\"\n[model.scratch]\n[data.world]\n[[compare]]\nname = \"one\"\n\
                      [[compare]]\nname = \"two\"\n";

fn read(set: &str) -> Result<(), String> {
    let source = RecipeSource { path: "r.toml".into(), text: RECIPE.to_owned() };
    load::<UnlearnRecipe>(source, &[set.to_owned()]).map(|_| ()).map_err(|e| e.message.into())
}

/// A number out of its range was taken, and ended as NaN in the weights or as a verdict that means nothing.
#[test]
fn numbers_out_of_their_range_are_refused_with_key_value_and_range() {
    let not_negative = ["-1", "nan", "inf", "-inf"].as_slice();
    let counts = ["0", "-1"].as_slice();
    let shares = ["-0.1", "1.5", "nan"].as_slice();
    let decays = ["-0.1", "1.0", "0.9999999999", "nan"].as_slice();
    let positive = ["0.0", "-1e-8", "1e-60", "inf", "nan"].as_slice();
    let slot =
        |slot: &str, name: &str, key: &str| format!("unlearn.{slot}={{ name = \"{name}\", {key} = # }}");
    let list =
        |slot: &str, name: &str, key: &str| format!("unlearn.{slot}=[{{ name = \"{name}\", {key} = # }}]");
    let mut cases: Vec<(String, &str, &[&str], &str)> = vec![
        (slot("forget", "npo", "beta"), "unlearn.forget.beta", positive, "at least 0.000001"),
        (slot("forget", "idk-dpo", "beta"), "unlearn.forget.beta", positive, "at least 0.000001"),
        (slot("forget", "simnpo", "beta"), "unlearn.forget.beta", positive, "at least 0.000001"),
        (
            slot("forget", "simnpo", "delta"),
            "unlearn.forget.delta",
            &["nan", "inf", "1e39"],
            "a finite number",
        ),
        (slot("guard", "sam", "rho"), "unlearn.guard.rho", not_negative, "at least 0"),
        (slot("guard", "rs", "sigma"), "unlearn.guard.sigma", not_negative, "at least 0"),
        (slot("guard", "rs", "draws"), "unlearn.guard.draws", counts, "at least 1"),
        (slot("guard", "gp", "lambda"), "unlearn.guard.lambda", not_negative, "at least 0"),
        (slot("guard", "gp", "h"), "unlearn.guard.h", positive, "at least 0.000001"),
        (slot("guard", "cr", "mu"), "unlearn.guard.mu", not_negative, "at least 0"),
        (slot("guard", "sure", "delta"), "unlearn.guard.delta", &["nan", "-101"], "at least -100"),
        (slot("forget", "rmu", "layer"), "unlearn.forget.layer", &["-1"], "at least 0"),
        (slot("forget", "rmu", "coefficient"), "unlearn.forget.coefficient", not_negative, "at least 0"),
        (slot("forget", "llmu", "delta"), "unlearn.forget.delta", not_negative, "at least 0"),
        (slot("forget", "altpo", "temperature"), "unlearn.forget.temperature", positive, "at least 0.000001"),
        (slot("forget", "task-vector", "increment"), "unlearn.forget.increment", positive, "more than 0"),
        (slot("forget", "whp", "alpha"), "unlearn.forget.alpha", not_negative, "at least 0"),
        (slot("retain", "pdu", "epsilon"), "unlearn.retain.epsilon", not_negative, "at least 0"),
        (slot("retain", "pdu", "eta"), "unlearn.retain.eta", not_negative, "at least 0"),
        (
            slot("combine", "gru", "share"),
            "unlearn.combine.share",
            &["0.0", "1.5", "nan"],
            "more than 0 and at most 1",
        ),
        (slot("where", "lora", "alpha"), "unlearn.where.alpha", positive, "more than 0"),
        (slot("where", "lora", "r"), "unlearn.where.r", counts, "at least 1"),
        (slot("where", "reglu", "r"), "unlearn.where.r", counts, "at least 1"),
        (slot("where", "reglu", "alpha"), "unlearn.where.alpha", positive, "more than 0"),
        (slot("where", "reglu", "beta"), "unlearn.where.beta", shares, "at least 0 and at most 1"),
        (slot("where", "reglu", "rol"), "unlearn.where.rol", not_negative, "at least 0"),
        (slot("where", "reglu", "k"), "unlearn.where.k", counts, "at least 1"),
        (slot("where", "reglu", "sequences"), "unlearn.where.sequences", counts, "at least 1"),
        (slot("where", "fila", "r"), "unlearn.where.r", counts, "at least 1"),
        (slot("where", "fila", "alpha"), "unlearn.where.alpha", positive, "more than 0"),
        (list("verdict", "kept", "share"), "unlearn.verdict[0].share", shares, "at least 0 and at most 1"),
        (
            list("verdict", "withstands", "margin"),
            "unlearn.verdict[0].margin",
            shares,
            "at least 0 and at most 1",
        ),
        (list("attack", "relearn", "window"), "unlearn.attack[0].window", counts, "at least 1"),
        (list("attack", "relearn", "epochs"), "unlearn.attack[0].epochs", counts, "at least 1"),
        (list("attack", "relearn", "early_layers"), "unlearn.attack[0].early_layers", counts, "at least 1"),
        (list("attack", "relearn", "every"), "unlearn.attack[0].every", counts, "at least 1"),
        (list("attack", "prompts", "examples"), "unlearn.attack[0].examples", counts, "at least 1"),
        (list("attack", "sampling", "samples"), "unlearn.attack[0].samples", counts, "at least 1"),
        (list("attack", "sampling", "temperature"), "unlearn.attack[0].temperature", positive, "more than 0"),
        (list("attack", "prune", "last"), "unlearn.attack[0].last", counts, "at least 1"),
        (
            list("attack", "membership", "k"),
            "unlearn.attack[0].k",
            &["0.0", "-0.1", "1.5", "nan"],
            "more than 0 and at most 1",
        ),
        (list("attack", "quantise", "group"), "unlearn.attack[0].group", counts, "at least 1"),
    ];
    for (key, bad, range) in [
        ("unlearn.forget_weight", not_negative, "at least 0"),
        ("unlearn.retain_weight", not_negative, "at least 0"),
        ("unlearn.batch_size", counts, "at least 1"),
        ("compare.0.lr", not_negative, "at least 0"),
        ("compare.1.forget_weight", not_negative, "at least 0"),
        ("compare.1.retain_weight", not_negative, "at least 0"),
        ("stop.below", &["10", "-0.1", "nan"], "at least 0 and at most 1"),
        ("stop.check_every", counts, "at least 1"),
        ("eval.limit", counts, "at least 1"),
        ("data.world.people", counts, "at least 2"),
        ("data.world.forget", shares, "at least 0 and at most 1"),
        ("data.world.perturbed", counts, "at least 1"),
        ("model.scratch.epochs", counts, "at least 1"),
    ] {
        cases.push((format!("{key}=#"), key, bad, range));
    }
    let optimizers = ["optimizer", "model.scratch.optimizer"];
    let keys: Vec<(String, &[&str], &str)> = optimizers
        .iter()
        .flat_map(|at| {
            [
                ("lr", not_negative, "at least 0"),
                ("beta1", decays, "at least 0 and less than 1"),
                ("beta2", decays, "at least 0 and less than 1"),
                ("eps", positive, "more than 0"),
                ("weight_decay", not_negative, "at least 0"),
                ("max_grad_norm", not_negative, "at least 0"),
                ("warmup_steps", &["-1"], "at least 0"),
            ]
            .map(|(key, bad, range)| (format!("{at}.{key}"), bad, range))
        })
        .collect();
    cases.extend(keys.iter().map(|(key, bad, range)| (format!("{key}=#"), key.as_str(), *bad, *range)));
    for (set, key, bad, range) in cases {
        // Items of lists are `compare.0` to `--set` and `compare[0]` to errors.
        let shown = key.replace(".0.", "[0].").replace(".1.", "[1].");
        for value in bad {
            let error = read(&set.replace('#', value)).expect_err(&set.replace('#', value));
            assert!(error.contains(&format!("`{shown}` must be {range}, found the number ")), "{error}");
        }
    }
    assert_eq!(read("optimizer.eps=1e-30"), Ok(()));
    assert_eq!(read("stop.below=1"), Ok(()));
    assert_eq!(read("optimizer.max_grad_norm=0"), Ok(()));
}

/// Every number that is not a count says what it may be, or is named here because it may be anything finite.
#[test]
fn every_number_has_a_range() {
    fn without_range(schema: &Value, path: &str, found: &mut Vec<String>) {
        if let Value::Object(map) = schema {
            let kinds = map.get("type");
            let is_number = kinds.is_some_and(|kinds| {
                *kinds == "number" || kinds.as_array().is_some_and(|kinds| kinds.contains(&"number".into()))
            });
            let has_range = ["minimum", "exclusiveMinimum"].iter().any(|bound| map.contains_key(*bound));
            if is_number && !has_range {
                found.push(path.to_owned());
            }
            for (key, value) in map.iter().filter(|(key, _)| *key != "default") {
                without_range(
                    value,
                    if key.starts_with(|c: char| c.is_lowercase()) { key } else { path },
                    found,
                );
            }
        } else if let Value::Array(items) = schema {
            items.iter().for_each(|item| without_range(item, path, found));
        }
    }
    let mut found = Vec::new();
    without_range(&schema_of::<UnlearnRecipe>(), "", &mut found);
    found.dedup();
    assert_eq!(found, ["delta"]);
}
