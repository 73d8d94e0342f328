//! A constrained answer always matches, whatever the budget, the sampling, the model and the tokenizer.

use std::sync::Arc;

use crate::data::test_data;
use crate::json_schema::is_valid;
use amend_engine::generate::{
    Constraint, Finish, GenerateOptions, Generated, Grammar, Request, Sampling, Session, SessionOptions,
};
use amend_engine::tokenizer::{TokenBytes, Tokenizer, train_bpe};
use amend_engine::{Error, Example, Model, Rng};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A tokenizer and a model that knows nothing.
struct Setup {
    name: &'static str,
    tokenizer: Tokenizer,
    tokens: Arc<TokenBytes>,
    model: Model,
}

fn random_model(vocabulary: usize, seed: u64) -> Model {
    let config = json!({
        "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 20, "vocab_size": vocabulary,
        "max_position_embeddings": 400, "initializer_range": 0.9,
    });
    Model::random(config.as_object().unwrap().clone(), seed).unwrap()
}

fn setup(name: &'static str, tokenizer: Tokenizer, model: Option<Model>) -> Setup {
    let tokens = Arc::new(TokenBytes::new(&tokenizer, &[]).unwrap());
    let model = model.unwrap_or_else(|| random_model(tokenizer.vocab_size() + 3, 5));
    Setup { name, tokenizer, tokens, model }
}

/// Tokens of one byte and no others.
fn bytes_alone() -> Arc<TokenBytes> {
    Arc::new(TokenBytes::new(&train_bpe(["a"].into_iter(), 260, &[]).unwrap(), &[]).unwrap())
}

/// Bytes and little else; the real models' vocabularies where the test data is there.
fn setups() -> Vec<Setup> {
    let text = "{\"name\": \"the cat\", \"list\": [true, false, null, 12.5e3]} größer — 猫";
    let mut all = vec![setup("trained", train_bpe([text].into_iter(), 300, &["<|x|>"]).unwrap(), None)];
    if cfg!(test_data) {
        let data = test_data();
        let stories = data.join("models/stories260k/hf");
        all.push(setup("stories", Tokenizer::open(&stories).unwrap(), Some(Model::open(&stories).unwrap())));
        all.push(setup("gpt2", Tokenizer::open(data.join("tokenizers/gpt2")).unwrap(), None));
    }
    all
}

impl Setup {
    fn options(
        &self,
        constraint: &Constraint,
        max_new_tokens: usize,
        temperature: f32,
        seed: u64,
    ) -> GenerateOptions {
        GenerateOptions {
            max_new_tokens,
            sampling: Sampling { temperature, seed, ..Default::default() },
            stop_ids: self.tokenizer.eos_ids().to_vec(),
            constraint: Some(constraint.clone()),
            ..Default::default()
        }
    }

    fn run(&self, options: &GenerateOptions) -> Result<Vec<Generated>, Error> {
        Ok(self.model.generate(&[vec![7, 8, 9]], options)?.swap_remove(0))
    }

    /// Answers at tiny and ample budgets, cold and hot; and that a smaller budget is refused.
    fn answers(&self, constraint: &Constraint, seed: u64) -> Vec<String> {
        let least = constraint.least_tokens();
        let mut texts = Vec::new();
        for (budget, temperature) in [(least, 3.0), (least + 1, 0.0), (least + 4, 20.0), (least + 40, 1.0)] {
            for g in self.run(&self.options(constraint, budget, temperature, seed)).unwrap() {
                assert!(g.ids.len() <= budget, "{}: {} tokens of {budget}", self.name, g.ids.len());
                assert!(g.logprobs.iter().all(|l| *l <= 1e-4));
                let text = self.tokenizer.decode(&g.ids, true).unwrap();
                assert!(constraint.matches(&text), "{}: {text:?} at {budget}, {temperature}", self.name);
                texts.push(text);
            }
        }
        if least > 0 {
            let error = self.run(&self.options(constraint, least - 1, 0.0, seed)).unwrap_err().to_string();
            assert!(error.contains(&format!("takes {least} tokens")), "{error}");
        }
        texts
    }
}

#[test]
fn token_bytes_are_what_decoding_makes_of_them() {
    let mut all = setups();
    if cfg!(test_data) {
        let data = test_data();
        for name in ["tokenizers/phi-3", "tokenizers/t5-small", "models/all-minilm-l6-v2"] {
            let tokenizer = Tokenizer::open(data.join(name)).unwrap();
            let model = random_model(8, 1);
            all.push(setup(name, tokenizer, Some(model)));
        }
    }
    for Setup { name, tokenizer, tokens, .. } in &all {
        let ids: Vec<u32> = tokens.iter(false).map(|(id, _)| id).collect();
        assert!(ids.iter().all(|&id| !tokenizer.is_special(id)));
        let mut rng = Rng::named(0, name);
        let mut compared = 0;
        for _ in 0..3000 {
            let some: Vec<u32> = (0..1 + rng.below(6)).map(|_| ids[rng.below(ids.len())]).collect();
            let bytes: Vec<u8> =
                (0..).zip(&some).flat_map(|(i, &id)| tokens.get(id, i == 0).unwrap().to_vec()).collect();
            if let Ok(text) = String::from_utf8(bytes) {
                assert_eq!(text, tokenizer.decode(&some, true).unwrap(), "{name}: {some:?}");
                compared += 1;
            }
        }
        assert!(compared > 200, "{name}: {compared}");
    }
}

#[test]
fn a_choice_is_one_of_the_choices() {
    let choices = ["yes", "no", "maybe not", "größer", "猫", " leading", "California", "a\"b\\"];
    for setup in setups() {
        let constraint = Constraint::new(&Grammar::choices(&choices).unwrap(), &setup.tokens).unwrap();
        for seed in 0..6 {
            for text in setup.answers(&constraint, seed) {
                assert!(choices.contains(&text.as_str()), "{}: {text:?}", setup.name);
            }
        }
        for choice in choices {
            let only = Constraint::new(&Grammar::choices(&[choice]).unwrap(), &setup.tokens).unwrap();
            assert!(setup.answers(&only, 0).iter().all(|text| text == choice), "{}: {choice}", setup.name);
        }
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn the_least_number_of_tokens_is_exact_for_choices() {
    let data = test_data();
    let tokenizer = Tokenizer::open(data.join("tokenizers/gpt2")).unwrap();
    let tokens = Arc::new(TokenBytes::new(&tokenizer, &[]).unwrap());
    let least = |choices: &[&str]| {
        Constraint::new(&Grammar::choices(choices).unwrap(), &tokens).unwrap().least_tokens()
    };
    assert_eq!(least(&["California"]), tokenizer.encode("California", false).unwrap().len());
    // The shorter text takes more tokens.
    assert_eq!(least(&["qzxj", " California"]), 1);
    assert_eq!(least(&["", "x"]), 0);
}

#[test]
fn expressions_match_as_the_regex_crate_says() {
    let patterns = [
        "[a-z]{3,9}",
        "(yes|no)( (yes|no)){2}",
        r"\d{4}-\d{2}-\d{2}",
        "^abc$",
        "^(a|b)*c?$",
        r"\p{Greek}{2,}",
        "[^a-z\\s]{4}",
        ".*",
        "猫|größer|x+",
        "(?i)hello",
        r"[\u{80}-\u{10FFFF}]{3}",
        "a{0,3}b{0,3}",
        "(ab|a)(bc|c)",
        r"-?(0|[1-9][0-9]*)(\.[0-9]+)?",
        r"\w+@\w+\.(com|org)",
        "",
        "x|",
    ];
    for setup in setups() {
        for (seed, pattern) in (0..).zip(patterns) {
            let constraint = Constraint::new(&Grammar::regex(pattern).unwrap(), &setup.tokens)
                .unwrap_or_else(|e| panic!("{}: {pattern}: {e}", setup.name));
            let judge = regex::Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap();
            for text in setup.answers(&constraint, seed) {
                assert!(judge.is_match(&text), "{}: {pattern}: {text:?}", setup.name);
            }
        }
    }
}

#[test]
fn expressions_that_are_not_understood_are_refused() {
    for (pattern, part) in [
        (r"a\bc", "\\b"),
        ("(a", "unclosed group"),
        ("(?=a)b", "look"),
        ("a$b", "anchors"),
        ("(?-u:\\xFF)", "UTF-8"),
    ] {
        let error = Grammar::regex(pattern).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("regular expression"), "{pattern}: {error}");
    }
    assert!(Grammar::regex("((a{999}){999}){999}").unwrap_err().to_string().contains("large"));
    let tokens = bytes_alone();
    assert!(
        Constraint::new(&Grammar::regex("[a&&b]").unwrap(), &tokens)
            .unwrap_err()
            .to_string()
            .contains("no answer")
    );
}

fn schemas() -> Vec<Value> {
    vec![
        json!({}),
        json!(true),
        json!({ "type": "object" }),
        json!({ "type": "array" }),
        json!({ "type": ["string", "null"], "maxLength": 3 }),
        json!({ "type": "string", "minLength": 4, "maxLength": 6 }),
        json!({ "type": "string", "pattern": "^[A-Z]{2}\\d+$" }),
        json!({ "type": "string", "pattern": "\"\\\\n?", "maxLength": 12 }),
        json!({ "type": "string", "pattern": "b", "minLength": 3 }),
        json!({ "type": "string", "pattern": "^\\w+$", "minLength": 2, "maxLength": 3 }),
        json!({ "type": "integer", "minimum": -3, "maximum": 12 }),
        json!({ "type": "integer", "exclusiveMinimum": 98, "maximum": 1234 }),
        json!({ "type": "integer", "maximum": -7 }),
        json!({ "type": "number", "minimum": 0.25, "exclusiveMaximum": 0.5 }),
        json!({ "type": "number", "exclusiveMinimum": -1.5, "maximum": 2e1 }),
        json!({ "type": "number", "minimum": 99.99, "maximum": 100.01 }),
        json!({ "type": "number" }),
        json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 2, "maxItems": 4 }),
        json!({ "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "string" }], "items": false, "minItems": 1 }),
        json!({ "type": "array", "prefixItems": [{ "type": "integer" }], "items": { "type": "null" }, "minItems": 3 }),
        json!({ "enum": ["a b", 1.5, null, [1, { "x": "y" }], "\u{1f600}\n"] }),
        json!({ "const": { "a": [true, "q\"uote"] } }),
        json!({ "type": "object", "properties": { "name": { "type": "string" }, "age": { "type": "integer", "minimum": 0 },
                "tags": { "type": "array", "items": { "enum": ["x", "y"] } } }, "required": ["age"] }),
        json!({ "type": "object", "properties": { "a": { "type": "integer" }, "ab": { "type": "null" } },
                "required": ["ab", "other"], "additionalProperties": { "type": "boolean" } }),
        json!({ "type": "object", "properties": { "date": { "type": "string", "format": "date" },
                "at": { "type": "string", "format": "date-time" }, "id": { "type": "string", "format": "uuid" },
                "mail": { "type": "string", "format": "email" }, "ip": { "type": "string", "format": "ipv4" },
                "t": { "type": "string", "format": "time" } }, "required": ["date", "at", "id", "mail", "ip", "t"] }),
        json!({ "$defs": { "node": { "type": "object", "properties": { "value": { "type": "integer" },
                "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] } }, "required": ["value", "next"] } },
                "$ref": "#/$defs/node" }),
        json!({ "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#" } } },
                "required": ["children"], "additionalProperties": false }),
        json!({ "oneOf": [{ "type": "object", "properties": { "kind": { "const": "a" }, "x": { "type": "integer" } },
                "required": ["kind", "x"] }, { "type": "object", "properties": { "kind": { "const": "b" } },
                "required": ["kind"] }, { "type": "string" }] }),
        json!({ "allOf": [{ "type": "object", "properties": { "a": { "type": "integer", "minimum": 3 } }, "required": ["a"] },
                { "properties": { "a": { "maximum": 5 }, "b": { "type": "null" } }, "required": ["b"] }] }),
        json!({ "type": "object", "properties": { "a": { "type": "integer" }, "b": { "type": "integer" } },
                "anyOf": [{ "required": ["a"] }, { "required": ["b"] }], "additionalProperties": false }),
        json!({ "$defs": { "x": { "type": "object", "properties": { "next": { "allOf": [{ "$ref": "#/$defs/x" },
                { "required": ["v"] }] }, "v": { "type": "null" } } } }, "$ref": "#/$defs/x" }),
    ]
}

fn check_schema(setup: &Setup, schema: &Value, seed: u64) {
    let grammar = Grammar::json_schema(schema).unwrap_or_else(|e| panic!("{schema}: {e}"));
    let constraint = Constraint::new(&grammar, &setup.tokens).unwrap_or_else(|e| panic!("{schema}: {e}"));
    for text in setup.answers(&constraint, seed) {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{schema}: {text:?}: {e}"));
        assert!(is_valid(schema, schema, &value), "{}: {schema}: {text}", setup.name);
    }
}

#[test]
fn answers_are_valid_under_their_schema() {
    for setup in setups() {
        for (seed, schema) in (0..).zip(schemas()) {
            check_schema(&setup, &schema, seed);
        }
    }
}

#[test]
fn schemas_that_are_not_understood_are_refused_by_name_and_place() {
    let cases = [
        (
            json!({ "type": "object", "properties": { "a": { "not": {} } } }),
            "schema/properties/a: the keyword \"not\"",
        ),
        (json!({ "patternProperties": { "x": {} } }), "patternProperties"),
        (json!({ "type": "array", "uniqueItems": true }), "uniqueItems"),
        (json!({ "type": "number", "multipleOf": 0.5 }), "multipleOf 0.5"),
        (json!({ "type": "string", "format": "colour" }), "\"colour\""),
        (json!({ "type": "strin" }), "\"strin\""),
        (json!({ "$ref": "#/nowhere" }), "leads nowhere"),
        (json!({ "$ref": "other.json" }), "other.json"),
        (json!({ "$ref": "#" }), "back to itself"),
        (json!({ "anyOf": [{ "$ref": "#" }, { "type": "null" }] }), "back to itself"),
        (json!({ "allOf": [{ "$ref": "#" }, { "type": "null" }] }), "back to themselves"),
        (json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }), "alternatives 0 and 1"),
        (
            json!({ "oneOf": [{ "type": "object", "properties": { "a": {} } }, { "type": "object" }] }),
            "alternatives 0 and 1",
        ),
        (json!({ "type": "string", "pattern": "(" }), "schema: regular expression"),
        (json!({ "type": "string", "minLength": -1 }), "minLength"),
        (json!({ "type": "string", "maxLength": 1_000_000_000_u64 }), "too large"),
        (json!(3), "a schema is"),
    ];
    for (schema, part) in cases {
        let error = Grammar::json_schema(&schema).unwrap_err().to_string();
        assert!(error.contains(part), "{schema}: {error}");
    }
    let tokens = bytes_alone();
    for schema in [
        json!(false),
        json!({ "type": "string", "minLength": 3, "maxLength": 2 }),
        json!({ "type": "object", "properties": { "a": false }, "required": ["a"] }),
        json!({ "$defs": { "n": { "type": "object", "properties": { "n": { "$ref": "#/$defs/n" } }, "required": ["n"] } },
                "$ref": "#/$defs/n" }),
        json!({ "type": "integer", "minimum": 4, "maximum": 3 }),
    ] {
        let error =
            Constraint::new(&Grammar::json_schema(&schema).unwrap(), &tokens).unwrap_err().to_string();
        assert!(error.contains("no answer"), "{schema}: {error}");
    }
}

/// Random schemas of every kind.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!({ "type": "boolean" })),
        (0usize..4, 0usize..4).prop_map(|(a, b)| json!({ "type": "string", "minLength": a, "maxLength": a + b })),
        (-200i64..200, 0i64..300).prop_map(|(a, b)| json!({ "type": "integer", "minimum": a, "maximum": a + b })),
        (-9i32..9, 1i32..99).prop_map(|(a, b)| {
            json!({ "type": "number", "exclusiveMinimum": f64::from(a) / 4.0, "maximum": f64::from(a + b) / 4.0 })
        }),
        prop::sample::select(vec!["^[a-c]{2}$", "x|yy", "^(é|\\d)+$"])
            .prop_map(|pattern| json!({ "type": "string", "pattern": pattern })),
        prop::collection::vec(prop_oneof![Just(json!("a")), Just(json!(3)), Just(json!(null)), "[a-zé\"]{0,4}".prop_map(Value::from)], 1..4)
            .prop_map(|values| json!({ "enum": values })),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let members = prop::collection::btree_map("[a-c]{1,2}", inner.clone(), 0..4);
        prop_oneof![
            (members, any::<u8>(), any::<bool>()).prop_map(|(members, bits, open)| {
                let required: Vec<&String> =
                    members.keys().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, name)| name).collect();
                json!({ "type": "object", "properties": members, "required": required, "additionalProperties": open })
            }),
            (inner.clone(), 0usize..3, 0usize..3)
                .prop_map(|(items, a, b)| json!({ "type": "array", "items": items, "minItems": a, "maxItems": a + b })),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|list| json!({ "anyOf": list })),
            (prop::collection::vec(inner, 0..3), any::<bool>())
                .prop_map(|(list, more)| json!({ "type": "array", "prefixItems": list, "items": more })),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn random_schemas_hold(schema in schema(), seed in 0u64..1000) {
        let text = "{\"a\": [1, 2], \"b\": \"the\"}";
        let tokenizer = train_bpe([text].into_iter(), 275, &[]).unwrap();
        let model = random_model(tokenizer.vocab_size(), seed);
        check_schema(&setup("random", tokenizer, Some(model)), &schema, seed);
    }
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn random_schemas_hold_for_real_tokenizers() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for setup in &setups()[1..] {
        for seed in 0..12 {
            let schema = schema().new_tree(&mut runner).unwrap().current();
            check_schema(setup, &schema, seed);
        }
    }
}

#[test]
fn constrained_texts_do_not_depend_on_the_batch() {
    for setup in setups() {
        let compile = |grammar: Grammar| Constraint::new(&grammar, &setup.tokens).unwrap();
        let prompts = [vec![5, 6], vec![9], vec![5, 6], vec![11, 12, 13]];
        let run = |batch_size, prompts: &[Vec<u32>], constraints: Vec<Option<Constraint>>| {
            let bounds = SessionOptions { batch_size, ..Default::default() };
            let mut session = Session::new(&setup.model, bounds);
            for (prompt, constraint) in prompts.iter().zip(constraints) {
                let options = GenerateOptions {
                    max_new_tokens: 40,
                    sampling: Sampling { temperature: 1.3, top_p: 0.9, ..Default::default() },
                    stop_ids: setup.tokenizer.eos_ids().to_vec(),
                    samples: 3,
                    constraint,
                    ..Default::default()
                };
                session.submit(Request::new(prompt.clone(), options)).unwrap();
            }
            session.run(|_| ()).unwrap()
        };
        let schema = &schemas()[22];
        let each = || {
            let object = compile(Grammar::json_object().unwrap());
            let person = compile(Grammar::json_schema(schema).unwrap());
            let word = compile(Grammar::regex("[a-z]+( [a-z]+)*").unwrap());
            vec![Some(person), Some(object), None, Some(word)]
        };
        // Made anew, so that what was met before cannot matter.
        let together = run(64, &prompts, each());
        assert_eq!(together, run(2, &prompts, each()));
        for (prompt, samples) in prompts.iter().zip(&together) {
            for g in samples {
                // Log-probabilities are the model's own.
                let scored = setup.model.score(&[Example::answer(prompt, &g.ids)], 4096).unwrap();
                assert_eq!(scored[0], g.logprobs);
            }
        }
        let word = vec![each().pop().unwrap(); 3];
        let alone = run(1, &prompts[..1], word.clone());
        assert_eq!(alone[0], run(8, &prompts[..3], word)[0]);
    }
}

#[test]
fn the_end_is_allowed_exactly_where_an_answer_may_end() {
    let setup = &setups()[0];
    let constraint = Constraint::new(&Grammar::regex("ab?").unwrap(), &setup.tokens).unwrap();
    let mut ended = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let g = setup.run(&setup.options(&constraint, 5, 4.0, seed)).unwrap().remove(0);
        let stopped = g.ids.iter().position(|id| setup.tokenizer.eos_ids().contains(id));
        assert_eq!(stopped.is_some(), g.finish == Finish::Stop);
        assert!(stopped.is_none_or(|at| at > 0 && at + 1 == g.ids.len()));
        ended.insert(format!("{:?}", g.finish));
    }
    assert_eq!(ended.into_iter().collect::<Vec<_>>(), ["Complete", "Stop"]);
    // Without an end token the whole answer is all that can come.
    let endless = GenerateOptions { stop_ids: Vec::new(), ..setup.options(&constraint, 5, 0.0, 0) };
    assert_eq!(setup.run(&endless).unwrap()[0].finish, Finish::Complete);
    // Tokens that are text cannot end one.
    let text = setup.tokenizer.encode("a", false).unwrap()[0];
    let confused = GenerateOptions { stop_ids: vec![text], ..endless.clone() };
    assert!(setup.run(&confused).unwrap_err().to_string().contains("stop id"));
    // The context is a budget like any other.
    let long = Constraint::new(&Grammar::regex("a{9}").unwrap(), &setup.tokens).unwrap();
    let options = setup.options(&long, 50, 0.0, 0);
    let prompt = |n: usize| setup.model.generate(&[vec![3; n]], &options);
    assert!(prompt(400).unwrap_err().to_string().contains("context"));
    let fits = prompt(401 - long.least_tokens()).unwrap();
    assert_eq!(setup.tokenizer.decode(&fits[0][0].ids, true).unwrap(), "aaaaaaaaa");
}
