//! The papers' claims in miniature, with their inequalities asserted. Minutes; `just miniatures` runs them.

mod mcu;
mod reglu;
mod superficial;

use serde_json::Value;

use crate::support::amend;

/// SAGO (arXiv 2604.14808): at matched forgetting retention SAGO ≥ PCGrad ≥ sum − 0.01, over three seeds.
#[test]
#[ignore = "takes minutes; run it with `just miniatures`"]
fn sago_keeps_more_than_pcgrad_keeps_more_than_the_sum() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("demo");
    let output = amend(&["demo", "--seeds", "3", "--json", "--out", out.to_str().unwrap()])
        .assert()
        .get_output()
        .clone();
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    let arms = run["results"]["arms"].as_array().unwrap();
    let of = |name: &str| arms.iter().find(|arm| arm["name"] == name).unwrap();
    let retained = |name: &str| of(name)["figures"]["retain_accuracy"]["value"].as_f64().unwrap();
    for name in ["sum", "pcgrad", "sago"] {
        let claims = of(name)["claims"].as_array().unwrap();
        let forgotten = claims.iter().find(|claim| claim["name"] == "forgotten").unwrap();
        assert_eq!(forgotten["pass"], true, "{name} is not at matched forgetting");
    }
    let (sum, pcgrad, sago) = (retained("sum"), retained("pcgrad"), retained("sago"));
    assert!(sago >= pcgrad, "SAGO {sago} < PCGrad {pcgrad}");
    assert!(pcgrad >= sum - 0.01, "PCGrad {pcgrad} < sum {sum} - 0.01");
    for seed in run["results"]["seeds"].as_array().unwrap() {
        for arm in seed["arms"].as_array().unwrap() {
            assert!(arm["after"]["forget"]["accuracy"]["value"].as_f64().unwrap() < 0.3, "{arm}");
        }
    }
}
