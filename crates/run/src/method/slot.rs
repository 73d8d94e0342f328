//! [`slot!`](crate::slot) and what its expansion calls.

use schemars::{Schema, SchemaGenerator};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::original_doc;

/// A filler's name and the schema of its options.
pub type NamedSchema = (&'static str, fn(&mut SchemaGenerator) -> Schema);

/// The schema of a slot: a name, or a table with `name` and that filler's options.
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

/// A filler's name, and what makes the slot of its options.
pub type NamedReader<T> = (&'static str, fn(toml::Table) -> Result<T, toml::de::Error>);

/// Reads a slot: a string is a filler with all its options at their defaults, a table has them beside `name`.
///
/// All formats are brought to one kind of table first. So the options of a filler are compiled for one format,
/// and the macro has nothing to repeat for each.
///
/// # Errors
/// An unknown name lists the known ones.
pub fn read_slot<'de, D, T>(deserializer: D, fillers: &[NamedReader<T>]) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    let names = || fillers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let mut table = deserializer.deserialize_any(NameOrTable)?;
    let name = match table.remove("name") {
        Some(toml::Value::String(name)) => name,
        Some(_) => return Err(de::Error::custom(format!("`name` must be one of: {}", names()))),
        None => return Err(de::Error::missing_field("name")),
    };
    let (_, read) = fillers
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| de::Error::custom(format!("unknown name `{name}`, expected one of: {}", names())))?;
    read(table).map_err(|error| de::Error::custom(error.message()))
}

struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = toml::Table;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name, or a table with `name`")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<toml::Table, E> {
        Ok(toml::Table::from_iter([("name".to_owned(), name.into())]))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<toml::Table, A::Error> {
        let mut table = toml::Table::new();
        while let Some((key, value)) = map.next_entry::<String, Option<toml::Value>>()? {
            // JSON writes null for an option that is not set; TOML leaves it out.
            table.extend(value.map(|value| (key, value)));
        }
        Ok(table)
    }
}

/// Declares a slot and its fillers.
///
/// The trait is written `dyn Trait`; with more bounds, in parentheses: `(dyn Trait + Sync)`.
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
                $crate::method::read_slot(
                    deserializer,
                    &[$(($name, |options| options.try_into().map(Self::$filler))),+],
                )
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
