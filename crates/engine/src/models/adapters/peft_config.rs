//! PEFT's `adapter_config.json`: what a LoRA adapter is, and refusing what it cannot be here.
//!
//! Options are those of `peft.LoraConfig`. An option that only steers training or the first values
//! is ignored; one that changes what the adapter computes is either supported or refused by name.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::lora::Lora;
use crate::{Error, Result};

/// Options that change the forward pass and are not supported: refused unless absent or empty.
const UNSUPPORTED: [(&str, &str); 13] = [
    ("use_dora", "DoRA adapters rescale the base weights"),
    ("use_qalora", "QA-LoRA adapters pool their input"),
    ("lora_bias", "the adapter has bias vectors of its own"),
    ("modules_to_save", "it replaces whole modules besides the low-rank ones"),
    ("trainable_token_indices", "it replaces rows of the embedding"),
    ("target_parameters", "it targets parameters that are not linear layers"),
    ("layer_replication", "it repeats layers of the base model"),
    ("alora_invocation_tokens", "it is active only after certain tokens"),
    ("arrow_config", "it routes between several adapters"),
    ("use_bdlora", "its matrices are block-diagonal"),
    ("velora_config", "it compresses its input"),
    ("kasa_config", "it cuts singular values of the base weights"),
    ("monteclora_config", "its weights are random variables"),
];

/// First values that also change the base weights, so that the adapter alone is not the difference.
const CHANGES_BASE: [&str; 6] = ["pissa", "olora", "corda", "loftq", "lora_ga", "mica"];

/// Ends of the rank-scaling patterns: module name (suffix) → value, in the file's order.
pub(super) type Pattern<T> = Vec<(String, T)>;

/// Reads the options.
pub(super) fn parse(path: &Path, config: &Map<String, Value>) -> Result<Lora> {
    let refuse = |message: String| Err(Error::format(path, message));
    match config.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        other => {
            return refuse(format!(
                "peft_type is {}; only \"LORA\" is supported",
                other.unwrap_or("missing")
            ));
        }
    }
    for (option, reason) in UNSUPPORTED {
        if config.get(option).is_some_and(is_set) {
            return refuse(format!("the option {option} is not supported ({reason})"));
        }
    }
    if let Some(bias) = config.get("bias").and_then(Value::as_str)
        && bias != "none"
    {
        return refuse(format!("bias is {bias:?}; only \"none\" is supported"));
    }
    if let Some(init) = config.get("init_lora_weights").and_then(Value::as_str)
        && CHANGES_BASE.iter().any(|name| init.to_ascii_lowercase().starts_with(name))
    {
        return refuse(format!(
            "init_lora_weights is {init:?}, which changes the base weights too; convert the adapter to plain LoRA in Python"
        ));
    }
    let text = |key: &str| config.get(key).and_then(Value::as_str).map(str::to_owned);
    let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    Ok(Lora {
        r: rank(path, "r", option(path, config, "r")?)?,
        lora_alpha: option(path, config, "lora_alpha")?,
        target_modules: target_modules(path, config)?,
        task_type: text("task_type"),
        use_rslora: flag("use_rslora"),
        fan_in_fan_out: flag("fan_in_fan_out"),
        rank_pattern: pattern(path, config, "rank_pattern")?
            .into_iter()
            .map(|(name, value)| Ok((name.clone(), rank(path, &format!("rank_pattern: {name}"), value)?)))
            .collect::<Result<_>>()?,
        alpha_pattern: pattern(path, config, "alpha_pattern")?,
    })
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

fn option(path: &Path, config: &Map<String, Value>, key: &str) -> Result<f64> {
    // PEFT's own default where the file leaves it out.
    let value = config.get(key).unwrap_or(&Value::Null);
    let number = if value.is_null() { Some(8.0) } else { value.as_f64() };
    number.ok_or_else(|| Error::format(path, format!("{key} is {value}, but must be a number")))
}

fn rank(path: &Path, name: &str, value: f64) -> Result<usize> {
    if value < 0.0 || value.fract() != 0.0 {
        return Err(Error::format(path, format!("{name} is {value}, but must be a whole number above 0")));
    }
    Ok(value as usize)
}

/// A list of names, or nothing where the file has a pattern: then the tensors say what is targeted.
fn target_modules(path: &Path, config: &Map<String, Value>) -> Result<Vec<String>> {
    match config.get("target_modules") {
        None | Some(Value::Null | Value::String(_)) => Ok(Vec::new()),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let mut names: Vec<_> = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            // PEFT keeps a set, so the order in the file is arbitrary.
            names.sort();
            Ok(names)
        }
        Some(other) => {
            Err(Error::format(path, format!("target_modules is {other}, but must be a list of names")))
        }
    }
}

fn pattern(path: &Path, config: &Map<String, Value>, key: &str) -> Result<Pattern<f64>> {
    let refuse = |message: String| Err(Error::format(path, message));
    let entries = match config.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => return refuse(format!("{key} is {other}, but must be an object")),
    };
    let mut result = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let plain = name.strip_prefix('^').unwrap_or(name).replace("\\.", ".");
        if plain.contains(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '-')) {
            return refuse(format!(
                "{key}: {name:?} is a regular expression; only module names are supported"
            ));
        }
        match value.as_f64() {
            Some(n) => result.push((name.clone(), n)),
            None => return refuse(format!("{key}: {name} is {value}, but must be a number")),
        }
    }
    Ok(result)
}

/// The value of the first pattern that names `module`: its end at a dot, or all of it after `^`.
pub(super) fn lookup<T: Copy>(pattern: &Pattern<T>, module: &str) -> Option<T> {
    let names = |key: &str| {
        let plain = key.replace("\\.", ".");
        match plain.strip_prefix('^') {
            Some(whole) => whole == module,
            None => ends_at_dot(module, &plain),
        }
    };
    pattern.iter().find(|(key, _)| names(key)).map(|(_, value)| *value)
}

/// Whether `module` is `name` or ends in `.name`.
pub(super) fn ends_at_dot(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The options of an adapter as PEFT writes them.
pub(super) fn to_json(lora: &Lora, base_model: Option<&str>, target_modules: &[String]) -> Value {
    let ranks: Map<String, Value> = lora.rank_pattern.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    let alphas: Map<String, Value> =
        lora.alpha_pattern.iter().map(|(k, v)| (k.clone(), number(*v))).collect();
    json!({
        "alpha_pattern": alphas,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": lora.fan_in_fan_out,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": number(lora.lora_alpha),
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.r,
        "rank_pattern": ranks,
        "target_modules": target_modules,
        "task_type": lora.task_type,
        "use_dora": false,
        "use_rslora": lora.use_rslora,
    })
}

/// PEFT declares alpha as an integer; a whole number is written as one.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
