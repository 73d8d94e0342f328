//! The registry of methods: what fills a slot, and what is known about it.
//!
//! There is no link-time magic. An area declares each of its slots once with [`slot!`](crate::slot), which makes
//! an enum of the fillers' option structs and a `METHODS` slice; the area's `METHODS` is those slices in a row.
//! Help texts, schemas, reference pages and recipes are all made from that slice.

mod slot;

use std::marker::PhantomData;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Map, Value};

#[doc(hidden)]
pub use slot::{NamedReader, NamedSchema, read_slot, slot_schema};

/// One filler of one slot, as the registry describes it.
pub trait Method: Sync {
    /// The name a recipe calls it by: `npo`.
    fn name(&self) -> &'static str;
    /// The area it belongs to: `unlearn`.
    fn area(&self) -> &'static str;
    /// The slot it fills: `forget`.
    fn slot(&self) -> &'static str;
    /// The doc comment of its options, as Markdown: the method's page in the reference.
    fn doc(&self) -> String;
    /// The JSON schema of its options.
    fn schema(&self) -> Schema;
    /// Its options as they are when a recipe says nothing about them.
    fn defaults(&self) -> Value;
}

/// The headings that every method's doc comment has, in this order.
pub const HEADINGS: [&str; 6] =
    ["What it does", "When to use it", "What it logs", "Source", "Inferred parts", "Expected result"];

/// The [`HEADINGS`] that a doc comment lacks, or has with nothing under them.
pub fn missing_headings(doc: &str) -> Vec<&'static str> {
    HEADINGS.into_iter().filter(|heading| !has_section(doc, heading)).collect()
}

fn has_section(doc: &str, heading: &str) -> bool {
    let is_heading = |line: &&str| line.starts_with('#');
    let mut lines = doc.lines().map(str::trim);
    let found = lines.any(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == heading);
    found && lines.take_while(|line| !is_heading(line)).any(|line| !line.is_empty())
}

/// A filler registered under a name; made by [`slot!`](crate::slot).
#[derive(Debug)]
pub struct Registered<T> {
    name: &'static str,
    area: &'static str,
    slot: &'static str,
    options: PhantomData<fn() -> T>,
}

impl<T> Registered<T> {
    /// Registers the options struct `T` as the filler `name` of `slot` in `area`.
    pub const fn new(name: &'static str, area: &'static str, slot: &'static str) -> Self {
        Self { name, area, slot, options: PhantomData }
    }
}

impl<T: JsonSchema + Default + Serialize> Method for Registered<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn area(&self) -> &'static str {
        self.area
    }

    fn slot(&self) -> &'static str {
        self.slot
    }

    fn doc(&self) -> String {
        // `T::json_schema` and not a whole document: there a missing title becomes the type's name.
        let generator = &mut SchemaSettings::draft2020_12().into_generator();
        original_doc(&T::json_schema(generator))
    }

    fn schema(&self) -> Schema {
        let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
        schema.insert("title".into(), self.name.into());
        schema.insert("description".into(), self.doc().into());
        let mut value = schema.clone().to_value();
        shorten_defaults(&mut value);
        Schema::try_from(value).unwrap_or(schema)
    }

    fn defaults(&self) -> Value {
        plain_defaults::<T>()
    }
}

/// Schemars takes a doc comment's leading heading away as the title; the page wants it back in its place.
fn original_doc(schema: &Schema) -> String {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("title") {
        "" => text("description").to_owned(),
        title => format!("# {title}\n\n{}", text("description")).trim_end().to_owned(),
    }
}

/// Through text and not through `to_value`, which would turn an f32 of 0.1 into 0.10000000149011612.
fn plain_defaults<T: Default + Serialize>() -> Value {
    let text = serde_json::to_string(&T::default()).unwrap_or_default();
    match serde_json::from_str(&text) {
        Ok(Value::Null) | Err(_) => Value::Object(Map::new()),
        Ok(value) => value,
    }
}

/// Writes the defaults inside a schema as a person would: 0.1 where an f32 was widened to 0.10000000149011612.
pub(crate) fn shorten_defaults(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if key == "default" { shorten_numbers(value) } else { shorten_defaults(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten_defaults),
        _ => {}
    }
}

fn shorten_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let wide = number.as_f64().unwrap_or_default();
            let narrow = wide as f32;
            if f64::from(narrow) == wide
                && let Ok(short) = narrow.to_string().parse::<f64>()
                && let Some(short) = serde_json::Number::from_f64(short)
            {
                *number = short;
            }
        }
        Value::Object(map) => map.values_mut().for_each(shorten_numbers),
        Value::Array(items) => items.iter_mut().for_each(shorten_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
