use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Method, missing_headings};

trait Objective {
    fn weight(&self) -> f32;
}

/// # What it does
///
/// Lowers the likelihood, gently:
///
/// ```text
/// loss = -2/beta * log sigmoid(...)
/// ```
///
/// # When to use it
/// Always.
///
/// # What it logs
/// `loss`.
///
/// # Source
/// A paper.
///
/// # Inferred parts
/// None.
///
/// # Expected result
/// Forgetting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Npo {
    /// Inverse temperature.
    beta: f32,
    /// Upper limit, if any.
    cap: Option<f64>,
}

impl Default for Npo {
    fn default() -> Self {
        Self { beta: 0.1, cap: None }
    }
}

impl Objective for Npo {
    fn weight(&self) -> f32 {
        self.beta
    }
}

/// A first line without a heading.
///
/// # What it does
/// # Source
/// Nothing above.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

impl Objective for Nothing {
    fn weight(&self) -> f32 {
        0.0
    }
}

crate::slot! {
    /// What lowers the model's grip
    /// on the forget set.
    slot Forget("unlearn", "forget"): dyn Objective, default Nothing {
        "npo" => Npo,
        "none" => Nothing,
    }
}

#[test]
fn a_slot_is_read_from_a_name_or_a_table() {
    let read = |json: &str| serde_json::from_str::<Forget>(json);
    assert_eq!(read("\"npo\"").unwrap(), Forget::Npo(Npo::default()));
    assert_eq!(read(r#"{"beta":0.5,"name":"npo"}"#).unwrap(), Forget::Npo(Npo { beta: 0.5, cap: None }));
    assert_eq!(read(r#"{"name":"none"}"#).unwrap(), Forget::default());
    let capped = |cap| Forget::Npo(Npo { beta: 1.0, cap });
    assert_eq!(read(r#"{"name":"npo","beta":1,"cap":null}"#).unwrap(), capped(None));
    let toml = |text: &str| toml::from_str::<Forget>(text).unwrap();
    assert_eq!(toml("name = 'npo'\nbeta = 1\ncap = inf"), capped(Some(f64::INFINITY)));
    assert_eq!(read("\"npo\"").unwrap().filler().weight(), 0.1);
    assert_eq!(read("\"npo\"").unwrap().name(), "npo");
    for bad in [
        "\"npoo\"",
        r#"{"name":"npoo"}"#,
        r#"{"name":"npo","betta":1}"#,
        r#"{"beta":1}"#,
        "3",
        r#"{"name":3}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let error = |json: &str| read(json).unwrap_err().to_string();
    assert!(error("\"npoo\"").contains("`npoo`, expected one of: npo, none"), "{}", error("\"npoo\""));
    let unknown = error(r#"{"name":"npo","betta":1}"#);
    assert!(unknown.starts_with("unknown field `betta`, expected `beta` or `cap`"), "{unknown}");
}

#[test]
fn a_slot_is_written_as_a_table_with_every_option() {
    let slot = Forget::Npo(Npo { beta: 0.1, cap: Some(2.0) });
    assert_eq!(serde_json::to_string(&slot).unwrap(), r#"{"name":"npo","beta":0.1,"cap":2.0}"#);
    assert_eq!(serde_json::to_string(&Forget::default()).unwrap(), r#"{"name":"none"}"#);
    assert_eq!(toml::to_string(&Forget::Npo(Npo::default())).unwrap(), "name = \"npo\"\nbeta = 0.1\n");
}

#[test]
fn methods_describe_themselves() {
    let [npo, none]: [&dyn Method; 2] = Forget::METHODS.try_into().unwrap();
    assert_eq!((npo.area(), npo.slot(), npo.name()), ("unlearn", "forget", "npo"));
    assert_eq!(npo.defaults(), serde_json::json!({ "beta": 0.1, "cap": null }));
    assert_eq!(none.defaults(), serde_json::json!({}));
    assert!(npo.schema().to_value().to_string().contains("Inverse temperature."));
    assert_eq!(npo.schema().get("properties").unwrap()["beta"]["default"], 0.1);
}

#[test]
fn the_doc_comment_is_the_page_unchanged() {
    let [npo, none]: [&dyn Method; 2] = Forget::METHODS.try_into().unwrap();
    let doc = npo.doc();
    assert!(doc.starts_with("# What it does\n\nLowers the likelihood, gently:\n\n```text\nloss ="), "{doc}");
    assert!(doc.ends_with("# Expected result\nForgetting."), "{doc}");
    assert_eq!(missing_headings(&doc), Vec::<&str>::new());
    assert!(none.doc().starts_with("A first line without a heading.\n\n# What it does"), "{}", none.doc());
    assert_eq!(
        missing_headings(&none.doc()),
        ["What it does", "When to use it", "What it logs", "Inferred parts", "Expected result"],
        "a heading with nothing under it counts as missing"
    );
}

#[test]
fn the_schema_of_a_slot_offers_names_and_tables() {
    let schema = schemars::schema_for!(Forget).to_value();
    assert_eq!(schema["description"], "What lowers the model's grip\non the forget set.");
    assert_eq!(schema["anyOf"][0]["enum"], serde_json::json!(["npo", "none"]));
    assert_eq!(schema["anyOf"][1]["properties"]["name"]["const"], "npo");
    assert_eq!(schema["anyOf"][1]["additionalProperties"], false);
}
