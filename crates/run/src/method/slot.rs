//! [`slot!`](crate::slot) and what its expansion calls.

use std::marker::PhantomData;

use schemars::{Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
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

/// Reads a slot: a string is looked up by `by_name`, a table is read as `T`.
///
/// # Errors
/// An unknown name lists the known ones.
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
