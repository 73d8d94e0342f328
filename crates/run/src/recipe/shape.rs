//! JSON schema as the check sees it: references followed, unions spread out into a flat list of alternatives.

use serde_json::{Map, Value};

/// How deep references and unions may nest before a schema is taken to accept anything. Schemas are made from
/// Rust types and stay far below; only a type that is nothing but itself would go on for ever.
const DEPTH: usize = 24;

/// One alternative of a schema: everything it demands of a value at this level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape<'s> {
    /// JSON type names; empty = any.
    pub(crate) types: Vec<&'s str>,
    /// The only values allowed (`enum` or `const`).
    pub(crate) allowed: Option<Vec<&'s Value>>,
    pub(crate) properties: Vec<(&'s str, &'s Value)>,
    pub(crate) required: Vec<&'s str>,
    /// The schema of keys that `properties` does not name, where the type is a map.
    pub(crate) other_keys: Option<&'s Value>,
    pub(crate) items: Option<&'s Value>,
    pub(crate) first_items: Vec<&'s Value>,
    pub(crate) range: Range,
}

/// Which numbers a schema admits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Range {
    /// Whether numbers are kept in single precision.
    single: bool,
    minimum: Option<f64>,
    above: Option<f64>,
    maximum: Option<f64>,
    below: Option<f64>,
}

impl Range {
    fn of(map: &Map<String, Value>) -> Self {
        let bound = |key: &str| map.get(key).and_then(Value::as_f64);
        Range {
            single: map.get("format").is_some_and(|format| format == "float"),
            minimum: bound("minimum"),
            above: bound("exclusiveMinimum"),
            maximum: bound("maximum"),
            below: bound("exclusiveMaximum"),
        }
    }

    /// What demands both; where both give a bound of one kind, the left one counts.
    fn merge(&self, other: &Self) -> Self {
        Range {
            single: self.single || other.single,
            minimum: self.minimum.or(other.minimum),
            above: self.above.or(other.above),
            maximum: self.maximum.or(other.maximum),
            below: self.below.or(other.below),
        }
    }

    /// Whether a number is finite and within the bounds, as it will be kept: a tiny number may round to a bound.
    pub(crate) fn admits(&self, number: f64) -> bool {
        let kept = |x: f64| if self.single { f64::from(x as f32) } else { x };
        let number = kept(number);
        number.is_finite()
            && self.minimum.is_none_or(|bound| number >= kept(bound))
            && self.above.is_none_or(|bound| number > kept(bound))
            && self.maximum.is_none_or(|bound| number <= kept(bound))
            && self.below.is_none_or(|bound| number < kept(bound))
    }

    /// The range in words: "at least 0 and less than 1".
    pub(crate) fn describe(&self) -> String {
        let bounds = [
            ("at least", self.minimum),
            ("more than", self.above),
            ("at most", self.maximum),
            ("less than", self.below),
        ];
        let bounds: Vec<String> =
            bounds.into_iter().filter_map(|(words, bound)| Some(format!("{words} {}", bound?))).collect();
        if bounds.is_empty() { "a finite number".into() } else { bounds.join(" and ") }
    }
}

/// A schema document, to follow its references in.
#[derive(Clone, Copy)]
pub(crate) struct Schema<'s> {
    pub(crate) root: &'s Value,
}

impl<'s> Schema<'s> {
    /// All alternatives of a schema. A schema that accepts everything gives one empty shape.
    pub(crate) fn shapes(self, schema: &'s Value) -> Vec<Shape<'s>> {
        self.spread(schema, 0)
    }

    fn spread(self, schema: &'s Value, depth: usize) -> Vec<Shape<'s>> {
        let Value::Object(map) = schema else {
            return if schema == &Value::Bool(false) { vec![] } else { vec![Shape::default()] };
        };
        if depth > DEPTH {
            return vec![Shape::default()];
        }
        let mut shapes = vec![Shape::of(map)];
        if let Some(target) = map.get("$ref").and_then(Value::as_str).and_then(|name| self.follow(name)) {
            shapes = product(&shapes, &self.spread(target, depth + 1));
        }
        for part in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            shapes = product(&shapes, &self.spread(part, depth + 1));
        }
        for union in ["anyOf", "oneOf"] {
            if let Some(parts) = map.get(union).and_then(Value::as_array) {
                let parts: Vec<Shape> = parts.iter().flat_map(|part| self.spread(part, depth + 1)).collect();
                shapes = product(&shapes, &parts);
            }
        }
        shapes
    }

    fn follow(self, reference: &str) -> Option<&'s Value> {
        self.root.pointer(reference.strip_prefix('#')?)
    }
}

fn product<'s>(left: &[Shape<'s>], right: &[Shape<'s>]) -> Vec<Shape<'s>> {
    left.iter().flat_map(|l| right.iter().map(|r| l.merge(r))).collect()
}

impl<'s> Shape<'s> {
    fn of(map: &'s Map<String, Value>) -> Self {
        let types = match map.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let constant = map.get("const").map(|value| vec![value]);
        let patterns = map.get("patternProperties").and_then(Value::as_object);
        let open = |schema: &&Value| schema.is_object() || **schema == Value::Bool(true);
        Shape {
            types,
            allowed: constant.or_else(|| Some(map.get("enum")?.as_array()?.iter().collect())),
            properties: object(map, "properties").map(|(name, schema)| (name.as_str(), schema)).collect(),
            required: array(map, "required").filter_map(Value::as_str).collect(),
            other_keys: map
                .get("additionalProperties")
                .filter(open)
                .or_else(|| patterns.and_then(|patterns| patterns.values().next())),
            items: map.get("items"),
            first_items: array(map, "prefixItems").collect(),
            range: Range::of(map),
        }
    }

    /// What demands both. Where both name a property, the left one counts: it is the more specific.
    fn merge(&self, other: &Self) -> Self {
        let types = match (self.types.is_empty(), other.types.is_empty()) {
            (true, _) => other.types.clone(),
            (false, true) => self.types.clone(),
            (false, false) => self.types.iter().copied().filter(|t| other.types.contains(t)).collect(),
        };
        let mut properties = self.properties.clone();
        for property in &other.properties {
            if !properties.iter().any(|(name, _)| *name == property.0) {
                properties.push(*property);
            }
        }
        Shape {
            types,
            allowed: self.allowed.clone().or_else(|| other.allowed.clone()),
            properties,
            required: self.required.iter().chain(&other.required).copied().collect(),
            other_keys: self.other_keys.or(other.other_keys),
            items: self.items.or(other.items),
            first_items: if self.first_items.is_empty() {
                other.first_items.clone()
            } else {
                self.first_items.clone()
            },
            range: self.range.merge(&other.range),
        }
    }

    /// Whether the shape says nothing about the keys of a table: a free-form value.
    pub(crate) fn is_free_form(&self) -> bool {
        self.properties.is_empty() && self.other_keys.is_none() && self.required.is_empty()
    }

    pub(crate) fn property(&self, name: &str) -> Option<&'s Value> {
        self.properties.iter().find(|(key, _)| *key == name).map(|(_, schema)| *schema)
    }

    /// The one string that a property must be, where there is exactly one: the tag of a tagged union.
    pub(crate) fn tag(&self, name: &str) -> Option<&'s str> {
        let map = self.property(name)?.as_object()?;
        Shape::of(map).allowed.filter(|values| values.len() == 1)?.first()?.as_str()
    }
}

fn object<'s>(map: &'s Map<String, Value>, key: &str) -> impl Iterator<Item = (&'s String, &'s Value)> {
    map.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn array<'s>(map: &'s Map<String, Value>, key: &str) -> impl Iterator<Item = &'s Value> {
    map.get(key).and_then(Value::as_array).into_iter().flatten()
}
