//! A choice among the records of a file: `author = "Ann" and year >= 1950`.
//!
//! ```text
//! choice     = all { "or" all }
//! all        = condition { "and" condition }
//! condition  = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "contains" ) value
//!            | field "in" "[" value { "," value } "]"
//! value      = "text" | 'text' | number | true | false | word
//! ```
//!
//! A field is one of the record's own names; `record` is its number in the file, counted from 1, where no field is called
//! so. With a number, numbers are compared and texts that are one; everything else is compared as text. Whether a number is less
//! than a text nobody can say, so that is refused. A record without the
//! field is unlike every value.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Record, Row};
use crate::nearest;

/// Which records of a file are meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Filter {
    text: String,
    /// At least one of these must hold, every condition of it.
    any: Vec<Vec<Condition>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    field: String,
    test: Test,
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// One of the values.
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
    Contains,
}

impl Test {
    /// Whether it asks for more or less; a text is neither more nor less than a number.
    fn is_ordered(self) -> bool {
        matches!(self, Test::Less | Test::AtMost | Test::More | Test::AtLeast)
    }
}

/// The number of a record in its file, where no field has this name.
const NUMBER: &str = "record";

impl Filter {
    /// Splits records into those that are meant and the others, both in their order.
    ///
    /// # Errors
    /// Where no record has a field that is asked for, or none is meant; in one sentence.
    pub fn split(&self, records: Vec<Record>) -> Result<[Vec<Record>; 2], String> {
        let rows: Vec<Row> = records.iter().cloned().map(Row::from).collect();
        self.part(records, &rows)
    }

    /// The same of rows that nobody has made records of.
    ///
    /// # Errors
    /// As [`Filter::split`].
    pub fn split_rows(&self, rows: Vec<Row>) -> Result<[Vec<Row>; 2], String> {
        self.part(rows.clone(), &rows)
    }

    /// Parts whatever stands for these rows.
    fn part<T>(&self, all: Vec<T>, rows: &[Row]) -> Result<[Vec<T>; 2], String> {
        self.check_fields(rows)?;
        self.check_order(rows)?;
        let (mut meant, mut others) = (Vec::new(), Vec::new());
        for (i, (one, row)) in all.into_iter().zip(rows).enumerate() {
            if self.holds(i + 1, row) { meant.push(one) } else { others.push(one) }
        }
        if meant.is_empty() {
            return Err(format!("no record has {}{}", self.text, self.values_there(rows)));
        }
        Ok([meant, others])
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.any.iter().flatten()
    }

    fn check_fields(&self, rows: &[Row]) -> Result<(), String> {
        let there: BTreeSet<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
        let unknown = self.conditions().find(|c| c.field != NUMBER && !there.contains(c.field.as_str()));
        let Some(Condition { field, .. }) = unknown else { return Ok(()) };
        let known = there.iter().copied().chain([NUMBER]);
        let near = nearest(field, known).map(|near| format!("; the nearest is `{near}`"));
        let all = there.into_iter().collect::<Vec<_>>().join(", ");
        Err(format!("no record has a field `{field}`{}; there are: {all}", near.unwrap_or_default()))
    }

    /// Refuses to order numbers by a text: 43 would be less than "5".
    fn check_order(&self, rows: &[Row]) -> Result<(), String> {
        for condition in self.conditions().filter(|condition| condition.test.is_ordered()) {
            let texts = condition.values.iter().filter_map(Value::as_str);
            let is_number = |row: &Row| match row.get(&condition.field) {
                Some(value) => value.is_number(),
                None => condition.field == NUMBER,
            };
            if let Some(text) = texts.into_iter().next().filter(|_| rows.iter().any(is_number)) {
                let advice = match text.trim().parse::<f64>() {
                    Ok(_) => format!("write {text} without quotes"),
                    Err(_) => "compare it with a number".to_owned(),
                };
                return Err(format!("`{}` is a number, and {text:?} is a text; {advice}", condition.field));
            }
        }
        Ok(())
    }

    /// What the first field that is asked for does hold, for whoever asked for something else.
    fn values_there(&self, rows: &[Row]) -> String {
        /// Enough to recognise the spelling by.
        const SHOWN: usize = 8;
        let Some(condition) = self.conditions().next().filter(|c| c.field != NUMBER) else {
            return format!("; there are {} records", rows.len());
        };
        let there = rows.iter().filter_map(|row| row.get(&condition.field));
        let mut values: Vec<(f64, String)> =
            there.map(|value| (value.as_f64().unwrap_or(f64::INFINITY), plain(value))).collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        values.dedup();
        let more = if values.len() > SHOWN { ", …" } else { "" };
        let first: Vec<String> =
            values.into_iter().take(SHOWN).map(|(_, v)| v.chars().take(40).collect()).collect();
        format!("; `{}` is one of: {}{more}", condition.field, first.join(", "))
    }

    fn holds(&self, number: usize, row: &Row) -> bool {
        let number = Value::from(number);
        let value = |field: &str| row.get(field).or_else(|| (field == NUMBER).then_some(&number));
        // A record without the field is not equal to anything.
        let holds = |c: &Condition| value(&c.field).map_or(c.test == Test::NotEqual, |value| c.holds(value));
        self.any.iter().any(|all| all.iter().all(holds))
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        // "1950" is a number too, for whoever asks for years after 1900.
        let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        let order = |wanted: &Value| match (number(value), wanted.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            (None, Some(_)) if self.test.is_ordered() => None,
            _ => Some(plain(value).cmp(&plain(wanted))),
        };
        let any = |test: &dyn Fn(Ordering) -> bool| self.values.iter().any(|v| order(v).is_some_and(test));
        match self.test {
            Test::Equal => any(&Ordering::is_eq),
            Test::NotEqual => !any(&Ordering::is_eq),
            Test::Less => any(&Ordering::is_lt),
            Test::AtMost => any(&Ordering::is_le),
            Test::More => any(&Ordering::is_gt),
            Test::AtLeast => any(&Ordering::is_ge),
            Test::Contains => match value {
                Value::Array(items) => {
                    items.iter().any(|item| self.values.iter().any(|wanted| plain(wanted) == plain(item)))
                }
                other => self.values.iter().any(|wanted| plain(other).contains(&plain(wanted))),
            },
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> String {
        filter.text
    }
}

impl TryFrom<String> for Filter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = Words { words: words(text)?, at: 0 };
        let mut any = vec![vec![rest.condition()?]];
        while let Some(word) = rest.next() {
            match word {
                Word::Name(name) if name == "or" => any.push(vec![rest.condition()?]),
                Word::Name(name) if name == "and" => {
                    let condition = rest.condition()?;
                    if let Some(last) = any.last_mut() {
                        last.push(condition);
                    }
                }
                other => return Err(format!("expected `and`, `or` or the end, found {other}")),
            }
        }
        Ok(Filter { text: text.trim().to_owned(), any })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// A field, an unquoted word, a keyword, a number.
    Name(String),
    Quoted(String),
    Sign(String),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Name(text) | Word::Sign(text) => write!(f, "`{text}`"),
            Word::Quoted(text) => write!(f, "{text:?}"),
        }
    }
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' || first == '\'' {
            let inside = &rest[1..];
            let end = inside.find(first).ok_or_else(|| format!("{rest} has no closing {first}"))?;
            words.push(Word::Quoted(inside[..end].to_owned()));
            end + 2
        } else if first == '(' {
            return Err(
                "there are no parentheses; `and` binds closer than `or`: a = 1 or b = 2 and c = 3".into()
            );
        } else if "=!<>[],".contains(first) {
            let sign =
                if rest[1..].starts_with('=') && "=!<>".contains(first) { &rest[..2] } else { &rest[..1] };
            words.push(Word::Sign(sign.to_owned()));
            sign.len()
        } else {
            let ends = |c: char| c.is_whitespace() || "=!<>[],\"'".contains(c);
            let end = rest.find(ends).unwrap_or(rest.len());
            words.push(Word::Name(rest[..end].to_owned()));
            end
        };
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

struct Words {
    words: Vec<Word>,
    at: usize,
}

impl Words {
    fn next(&mut self) -> Option<Word> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word
    }

    fn needed(&mut self, what: &str) -> Result<Word, String> {
        self.next().ok_or_else(|| format!("expected {what}, found the end; write FIELD = \"VALUE\""))
    }

    fn condition(&mut self) -> Result<Condition, String> {
        let field = match self.needed("a field")? {
            Word::Name(name) | Word::Quoted(name) => name,
            other => return Err(format!("expected a field, found {other}")),
        };
        let test = match self.needed("a comparison")? {
            Word::Sign(sign) => match sign.as_str() {
                "=" | "==" => Test::Equal,
                "!=" => Test::NotEqual,
                "<" => Test::Less,
                "<=" => Test::AtMost,
                ">" => Test::More,
                ">=" => Test::AtLeast,
                _ => {
                    return Err(format!(
                        "`{sign}` compares nothing; use =, !=, <, <=, >, >=, contains or in"
                    ));
                }
            },
            Word::Name(name) if name == "contains" => Test::Contains,
            Word::Name(name) if name == "in" => {
                return Ok(Condition { field, test: Test::Equal, values: self.list()? });
            }
            other => return Err(format!("expected =, !=, <, <=, >, >=, contains or in, found {other}")),
        };
        let word = self.needed("a value")?;
        Ok(Condition { field, test, values: vec![value(word)?] })
    }

    fn list(&mut self) -> Result<Vec<Value>, String> {
        let sign = |word: &Word, wanted: &str| matches!(word, Word::Sign(sign) if sign == wanted);
        let open = self.needed("[")?;
        if !sign(&open, "[") {
            return Err(format!("expected `[` after `in`, found {open}"));
        }
        let mut values = Vec::new();
        loop {
            let word = self.needed("a value")?;
            values.push(value(word)?);
            match self.needed("`,` or `]`")? {
                word if sign(&word, ",") => {}
                word if sign(&word, "]") => return Ok(values),
                other => return Err(format!("expected `,` or `]`, found {other}")),
            }
        }
    }
}

fn value(word: Word) -> Result<Value, String> {
    match word {
        Word::Quoted(text) => Ok(Value::String(text)),
        // A number or truth value where it is one, otherwise a word.
        Word::Name(text) => Ok(match serde_json::from_str::<Value>(&text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
            _ => Value::String(text),
        }),
        Word::Sign(sign) => Err(format!("expected a value, found `{sign}`")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn records() -> Vec<Record> {
        let rows = [
            json!({ "question": "a?", "answer": "x", "author": "Ann Lee", "year": 1950, "tags": ["sea"] }),
            json!({ "question": "b?", "answer": "y", "author": "Bob", "year": 1970, "tags": [] }),
            json!({ "question": "c?", "answer": "z", "author": "Cid", "year": "8", "place": "Rome " }),
        ];
        rows.into_iter().map(|row| Record::try_from(row.as_object().unwrap().clone()).unwrap()).collect()
    }

    fn meant(filter: &str) -> String {
        let [meant, others] = filter.parse::<Filter>().unwrap().split(records()).unwrap();
        assert_eq!(meant.len() + others.len(), 3);
        meant.iter().map(|record| record.content.prompt()).collect()
    }

    /// 43 was less than "5", and the wrong records were forgotten.
    #[test]
    fn numbers_are_not_ordered_by_texts() {
        let refused = |text: &str| text.parse::<Filter>().unwrap().split(records()).unwrap_err();
        assert!(refused("year < \"1960\"").contains("write 1960 without quotes"));
        assert!(refused("year >= soon").contains("`year` is a number, and \"soon\" is a text"));
        assert!(refused("record < \"2\"").contains("write 2 without quotes"));
        assert!(refused("year = 5").contains("one of: 1950, 1970"));
        assert_eq!("year = \"1950\"".parse::<Filter>().unwrap().split(records()).unwrap()[0].len(), 1);
        assert!("author < \"B\"".parse::<Filter>().unwrap().split(records()).is_ok());
    }

    #[test]
    fn records_are_chosen_by_their_fields() {
        assert_eq!(meant(r#"author = "Ann Lee""#), "a?");
        assert_eq!(meant("author = Bob or author = Cid"), "b?c?");
        assert_eq!(meant("author in ['Ann Lee', Cid] and year > 100"), "a?");
        assert_eq!(meant("year < 1970"), "a?c?", "numbers are no texts");
        assert_eq!(meant("author != Bob"), "a?c?");
        assert_eq!(meant("tags != sea and year > 1"), "a?b?c?", "a list is no text");
        assert_eq!(meant("place != Rome or year = 1950"), "a?b?c?", "and who has no place is not from Rome");
        assert_eq!(meant("author contains Lee"), "a?");
        assert_eq!(meant("tags contains sea"), "a?");
        assert_eq!(meant("record <= 2"), "a?b?");
        assert_eq!(meant("answer = z"), "c?");
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        let split = |filter: &str| filter.parse::<Filter>().unwrap().split(records()).unwrap_err();
        assert!(split("auther = Ann").contains("no record has a field `auther`; the nearest is `author`"));
        assert!(split("recrd > 2").contains("the nearest is `record`"));
        let grouped = "author = Ann and (year < 1950 or year > 2000)".parse::<Filter>().unwrap_err();
        assert!(grouped.contains("there are no parentheses"), "{grouped}");
        let none = split("author = Ann");
        assert!(none.contains("no record has author = Ann") && none.contains("Ann Lee, Bob, Cid"), "{none}");
        assert!(split("record > 3").contains("there are 3 records"));
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        for (text, part) in [
            ("", "expected a field"),
            ("author", "expected a comparison"),
            ("author =", "expected a value"),
            ("author = \"Ann", "no closing"),
            ("author = Ann Lee", "expected `and`, `or` or the end, found `Lee`"),
            ("author in Ann", "expected `[`"),
            ("author ! Ann", "compares nothing"),
            ("= 3", "expected a field"),
        ] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "\\PC{0,40}") {
            let _ = text.parse::<Filter>();
        }

        #[test]
        fn pieces_of_the_language_are_read_or_refused(
            parts in prop::collection::vec(prop::sample::select(vec![
                "author", "=", "!=", "<=", "in", "[", "]", ",", "and", "or", "\"a b\"", "'", "3", "contains",
            ]), 0..12)
        ) {
            if let Ok(filter) = parts.join(" ").parse::<Filter>() {
                let _ = filter.split(records());
            }
        }
    }
}
