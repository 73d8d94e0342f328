//! What a run writes down and reads again: JSON in which null is a number that could not be measured.
//!
//! JSON has neither NaN nor infinities; both are written as null. [`from_value`] gives NaN for a null wherever a
//! number is asked for, so whatever a stage leaves can be read again, whichever of its figures were undefined.
//! The exception are numbers under serde's `flatten` and in untagged enums, which serde reads without knowing
//! what is asked for; [`crate::Run::once`] refuses to leave such a value, instead of a resumed run finding it.

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Serialize, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

use crate::key::Key;

/// A value as JSON. NaN and infinities become null.
///
/// # Errors
/// Where the value has no form in JSON.
pub fn to_value(value: &impl Serialize) -> Result<Value, Error> {
    // Through text and not `serde_json::to_value`: an f32 of 0.1 stays 0.1.
    serde_json::from_str(&serde_json::to_string(value)?)
}

/// Reads what [`to_value`] wrote. A null is NaN where a number is asked for.
///
/// # Errors
/// Where the JSON is not of the asked form.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Stored(value))
}

/// A JSON value whose nulls are numbers where numbers are asked for.
struct Stored(Value);

impl<'de> IntoDeserializer<'de, Error> for Stored {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

type Entry<'de> = (Key<'de, Error>, Stored);
type Entries<'de> = std::iter::Map<serde_json::map::IntoIter, fn((String, Value)) -> Entry<'de>>;

fn entries<'de>(map: Map<String, Value>) -> MapDeserializer<'de, Entries<'de>, Error> {
    let entry: fn((String, Value)) -> Entry<'de> = |(key, value)| (Key::new(key), Stored(value));
    MapDeserializer::new(map.into_iter().map(entry))
}

impl<'de> Deserializer<'de> for Stored {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Stored));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(map) => {
                let mut entries = entries(map);
                let value = visitor.visit_map(&mut entries)?;
                entries.end()?;
                Ok(value)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_f64(f64::NAN),
            number => number.deserialize_f64(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_enum(MapAccessDeserializer::new(entries(map))),
            name_alone => name_alone.deserialize_enum(name, variants, visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    enum Kind {
        Plain,
        One(f64),
        Two(f64, u8),
        Named { value: f32 },
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Wrapped(f64);

    #[derive(Debug, Serialize, Deserialize)]
    struct Stage {
        watched: f64,
        narrow: f32,
        curve: Vec<f64>,
        pair: (f64, String),
        stderr: Option<f64>,
        by_layer: BTreeMap<u32, f64>,
        kinds: Vec<Kind>,
        wrapped: Wrapped,
        note: Option<String>,
        nothing: (),
    }

    /// A stage that took no step once wrote null for what it had watched, and could not be read again.
    #[test]
    fn whatever_was_undefined_can_be_read_again() {
        let nan = f64::NAN;
        let stage = Stage {
            watched: nan,
            narrow: f32::INFINITY,
            curve: vec![0.1, nan, f64::NEG_INFINITY],
            pair: (nan, "a".into()),
            stderr: None,
            by_layer: BTreeMap::from([(3, nan), (11, 0.25)]),
            kinds: vec![Kind::Plain, Kind::One(nan), Kind::Two(nan, 7), Kind::Named { value: f32::NAN }],
            wrapped: Wrapped(nan),
            note: Some("b".into()),
            nothing: (),
        };
        let written = to_value(&stage).unwrap();
        assert!(serde_json::from_value::<Stage>(written.clone()).is_err(), "plain JSON has no such numbers");
        let again: Stage = from_value(written.clone()).unwrap();
        assert!(again.watched.is_nan() && again.narrow.is_nan() && again.wrapped.0.is_nan());
        assert_eq!((again.curve[0], again.curve[1].is_nan(), again.curve[2].is_nan()), (0.1, true, true));
        assert_eq!((again.stderr, again.by_layer[&11], again.note.as_deref()), (None, 0.25, Some("b")));
        assert!(again.by_layer[&3].is_nan());
        assert!(matches!(again.kinds[2], Kind::Two(value, 7) if value.is_nan()), "{:?}", again.kinds);
        assert_eq!(to_value(&again).unwrap(), written, "written again it is the same");
    }

    #[test]
    fn what_is_not_of_the_asked_form_is_refused() {
        assert!(from_value::<u32>(Value::Null).is_err() && from_value::<String>(Value::Null).is_err());
        assert!(from_value::<(f64, f64)>(serde_json::json!([1.0, 2.0, 3.0])).is_err());
        assert!(from_value::<BTreeMap<u32, f64>>(serde_json::json!({ "x": 1.0 })).is_err());
    }

    proptest! {
        /// A resumed run computes with what was written: not one bit may differ.
        #[test]
        fn numbers_keep_all_their_bits(wide in any::<f64>(), narrow in any::<f32>()) {
            prop_assume!(wide.is_finite() && narrow.is_finite());
            let text = to_value(&(wide, narrow)).unwrap().to_string();
            let again: (f64, f32) = from_value(serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert_eq!((again.0.to_bits(), again.1.to_bits()), (wide.to_bits(), narrow.to_bits()));
        }
    }
}
