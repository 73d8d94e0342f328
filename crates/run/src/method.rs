//! The registry of methods: what fills a slot, and what is known about it.
//!
//! There is no link-time magic. An area declares each of its slots once with [`slot!`](crate::slot), which makes
//! an enum of the fillers' option structs and a `METHODS` slice; the area's `METHODS` is those slices in a row.
//! Help texts, schemas, reference pages and recipes are all made from that slice.

use std::marker::PhantomData;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Serialize, de};
use serde_json::{Map, Value};

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

/// A filler's name and the schema of its options.
#[doc(hidden)]
pub type NamedSchema = (&'static str, fn(&mut SchemaGenerator) -> Schema);

/// The schema of a slot: a name, or a table with `name` and that filler's options.
#[doc(hidden)]
pub fn slot_schema(generator: &mut SchemaGenerator, doc: &str, fillers: &[NamedSchema]) -> Schema {
    let names: Vec<Value> = fillers.iter().map(|(name, _)| Value::from(*name)).collect();
    let mut alternatives = vec![serde_json::json!({
        "type": "string",
        "enum": names,
        "description": "The name alone: all its options at their defaults.",
    })];
    for (name, schema) in fillers {
        alternatives.push(filler_schema(name, schema(generator)));
    }
    let mut schema = Map::new();
    // Doc attributes keep the space after `///`.
    let doc: Vec<&str> = doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    schema.insert("description".into(), doc.join("\n").trim().into());
    schema.insert("anyOf".into(), Value::Array(alternatives));
    Schema::from(schema)
}

fn filler_schema(name: &str, options: Schema) -> Value {
    let doc = original_doc(&options);
    let mut options = options.to_value();
    let taken = options.get_mut("properties").map(Value::take);
    let mut properties = Map::new();
    properties.insert("name".into(), serde_json::json!({ "type": "string", "const": name }));
    if let Some(Value::Object(rest)) = taken {
        properties.extend(rest);
    }
    let mut table = Map::new();
    table.insert("type".into(), "object".into());
    table.insert("title".into(), name.into());
    if !doc.is_empty() {
        table.insert("description".into(), doc.into());
    }
    table.insert("properties".into(), Value::Object(properties));
    table.insert("required".into(), serde_json::json!(["name"]));
    table.insert("additionalProperties".into(), Value::Bool(false));
    Value::Object(table)
}

/// Reads a slot: a string is looked up by `by_name`, a table is read as `T`.
///
/// # Errors
/// An unknown name lists the known ones.
#[doc(hidden)]
pub fn name_or_table<'de, D, T, F>(
    deserializer: D,
    names: &'static [&'static str],
    by_name: F,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
    F: FnOnce(&str) -> Option<T>,
{
    struct NameOrTable<T, F> {
        names: &'static [&'static str],
        by_name: F,
        table: PhantomData<fn() -> T>,
    }

    impl<'de, T: Deserialize<'de>, F: FnOnce(&str) -> Option<T>> Visitor<'de> for NameOrTable<T, F> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a name or a table with `name` (one of: {})", self.names.join(", "))
        }

        fn visit_str<E: de::Error>(self, name: &str) -> Result<T, E> {
            (self.by_name)(name).ok_or_else(|| E::unknown_variant(name, self.names))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(NameOrTable { names, by_name, table: PhantomData })
}

/// Declares a slot and its fillers.
///
/// ```
/// use amend_run::slot;
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// /// What every filler of the slot can do.
/// pub trait Combine {
///     /// The combination of one coordinate of the two gradients.
///     fn combine(&self, forget: f32, retain: f32) -> f32;
/// }
///
/// /// Adds the two.
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// pub struct Sum {
///     /// Weight of the retain gradient.
///     pub retain: f32,
/// }
///
/// impl Default for Sum {
///     fn default() -> Self {
///         Self { retain: 1.0 }
///     }
/// }
///
/// impl Combine for Sum {
///     fn combine(&self, forget: f32, retain: f32) -> f32 {
///         forget + self.retain * retain
///     }
/// }
///
/// slot! {
///     /// How the two gradients become one.
///     pub slot Combination("unlearn", "combine"): dyn Combine, default Sum {
///         "sum" => Sum,
///     }
/// }
///
/// assert_eq!(Combination::default().filler().combine(1.0, 2.0), 3.0);
/// assert_eq!(Combination::METHODS[0].slot(), "combine");
/// ```
///
/// The result is `enum Combination { Sum(Sum) }` which a recipe writes as `"sum"` or
/// `{ name = "sum", retain = 0.5 }`, and which is always written back as a table with all its options. It has
/// `filler()`, `name()` and `METHODS`; with `default Filler` also `Default`. Each options struct derives `Clone,
/// Debug, PartialEq, Serialize, Deserialize, JsonSchema` with `#[serde(default, deny_unknown_fields)]` and has a
/// `Default`. The calling crate depends on `serde` itself, because derived code names it.
#[macro_export]
macro_rules! slot {
    (
        $(#[doc = $doc:expr])*
        $vis:vis slot $slot:ident($area:literal, $position:literal): $objective:ty
            $(, default $default:ident)? {
            $( $name:literal => $filler:ident ),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, $crate::__private::serde::Serialize)]
        #[serde(tag = "name")]
        #[allow(clippy::large_enum_variant)]
        $vis enum $slot {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $filler($filler),
            )+
        }

        #[allow(dead_code)]
        impl $slot {
            /// What is known about each filler.
            $vis const METHODS: &'static [&'static dyn $crate::method::Method] =
                &[$( &$crate::method::Registered::<$filler>::new($name, $area, $position) ),+];

            /// The chosen filler.
            $vis fn filler(&self) -> &$objective {
                match self {
                    $( Self::$filler(options) => options, )+
                }
            }

            /// The name of the chosen filler, as recipes write it.
            $vis fn name(&self) -> &'static str {
                match self {
                    $( Self::$filler(_) => $name, )+
                }
            }
        }

        $(
            impl Default for $slot {
                fn default() -> Self {
                    Self::$default(Default::default())
                }
            }
        )?

        impl<'de> $crate::__private::serde::Deserialize<'de> for $slot {
            fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
            where
                D: $crate::__private::serde::Deserializer<'de>,
            {
                #[derive($crate::__private::serde::Deserialize)]
                #[serde(tag = "name")]
                #[allow(clippy::large_enum_variant)]
                enum Table {
                    $(
                        #[serde(rename = $name)]
                        $filler($filler),
                    )+
                }
                let table = $crate::method::name_or_table(deserializer, &[$($name),+], |name| match name {
                    $( $name => Some(Table::$filler(Default::default())), )+
                    _ => None,
                })?;
                Ok(match table {
                    $( Table::$filler(options) => Self::$filler(options), )+
                })
            }
        }

        impl $crate::__private::schemars::JsonSchema for $slot {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($slot).into()
            }

            fn schema_id() -> ::std::borrow::Cow<'static, str> {
                concat!(module_path!(), "::", stringify!($slot)).into()
            }

            fn json_schema(
                generator: &mut $crate::__private::schemars::SchemaGenerator,
            ) -> $crate::__private::schemars::Schema {
                $crate::method::slot_schema(
                    generator,
                    concat!($($doc, "\n",)* ""),
                    &[$((
                        $name,
                        <$filler as $crate::__private::schemars::JsonSchema>::json_schema,
                    )),+],
                )
            }
        }
    };
}

#[cfg(test)]
mod tests;
