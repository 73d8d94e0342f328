//! In which keys recipes differ.

use serde::Serialize;

use super::error::Problem;
use super::tree::{self, Entry, Node, Value};

/// A key whose value is not the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key, dotted: `optimizer.lr`. What is filled by name, a slot, is its own key; an item of a list is called by
    /// its name: `compare.sago.lr`.
    pub key: String,
    /// Its value in each of what is compared; `None` where the key is not there.
    pub values: Vec<Option<String>>,
}

/// A key and its value, as a reader is told them.
pub(crate) type Leaf = (String, String);

/// The keys in which recipes differ, in the order of the recipes. These should be resolved ones: a default that only one
/// of them writes out counts as a difference.
///
/// # Errors
/// Malformed TOML; tells which of the recipes it is.
pub fn differences(recipes: &[&str]) -> Result<Vec<Difference>, (usize, Problem)> {
    let read = |(index, text): (usize, &&str)| leaves(text).map_err(|problem| (index, problem));
    Ok(unlike(&recipes.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?))
}

/// The keys that do not have the same value in every one of these, or are not in all.
pub(crate) fn unlike(all: &[Vec<Leaf>]) -> Vec<Difference> {
    let mut keys: Vec<&str> = Vec::new();
    for leaves in all {
        // A key that the earlier ones do not have comes behind its neighbour.
        let mut place = 0;
        for (key, _) in leaves {
            place = match keys.iter().position(|known| known == key) {
                Some(known) => known + 1,
                None => {
                    keys.insert(place, key);
                    place + 1
                }
            };
        }
    }
    let value = |leaves: &Vec<Leaf>, key: &str| {
        leaves.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    };
    let difference = |key: &str| Difference {
        key: key.to_owned(),
        values: all.iter().map(|leaves| value(leaves, key)).collect(),
    };
    let differs = |difference: &Difference| difference.values.windows(2).any(|pair| pair[0] != pair[1]);
    keys.into_iter().map(difference).filter(differs).collect()
}

/// Every key of a recipe with its value.
pub(crate) fn leaves(text: &str) -> Result<Vec<Leaf>, Problem> {
    let mut leaves = Vec::new();
    flatten(&tree::parse(text)?, String::new(), &mut leaves);
    Ok(leaves)
}

fn flatten(node: &Node, key: String, leaves: &mut Vec<Leaf>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match &node.value {
        Value::Table(entries) => {
            for Entry { key: name, node, .. } in entries {
                match (&node.value, name.as_str()) {
                    // `forget = { name = "npo", beta = 0.1 }` is what `forget = "npo"` stands for.
                    (Value::String(filler), "name") if !key.is_empty() => {
                        leaves.push((key.clone(), filler.clone()));
                    }
                    _ => flatten(node, below(name), leaves),
                }
            }
        }
        Value::Array(items) if items.iter().any(|item| matches!(item.value, Value::Table(_))) => {
            let names = names(items);
            leaves.push((key.clone(), names.join(", ")));
            for (item, name) in items.iter().zip(&names) {
                let at = below(name);
                let first = leaves.len();
                flatten(item, at.clone(), leaves);
                // The list has said its name.
                let own = leaves[first..].iter().position(|(key, _)| *key == at);
                own.map(|own| leaves.remove(first + own));
            }
        }
        other => leaves.push((key, shown(other))),
    }
}

/// What the items of a list are called: by their own names, otherwise by what fills them, otherwise by their places. The
/// second of a name is `relearn-2`.
fn names(items: &[Node]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let name = name(item).unwrap_or_else(|| (index + 1).to_string());
        let is_free = |name: &String| !names.contains(name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(is_free);
        names.push(free.unwrap_or(name));
    }
    names
}

fn name(item: &Node) -> Option<String> {
    let entries = match &item.value {
        Value::String(name) => return Some(name.clone()),
        Value::Table(entries) => entries,
        _ => return None,
    };
    let own = |entries: &[Entry]| {
        entries.iter().find_map(|entry| match &entry.node.value {
            Value::String(name) if entry.key == "name" => Some(name.clone()),
            _ => None,
        })
    };
    let filler = |entry: &Entry| match &entry.node.value {
        Value::Table(entries) => own(entries),
        _ => None,
    };
    own(entries).or_else(|| {
        let fillers: Vec<String> = entries.iter().filter_map(filler).collect();
        (!fillers.is_empty()).then(|| fillers.join("-"))
    })
}

/// A value as a reader is told it: without quotes where none are needed.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() || text.trim() != text || text.contains(char::is_control) => {
            format!("{text:?}")
        }
        Value::String(text) | Value::Datetime(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) if *number == 0.0 || (1e-3..1e6).contains(&number.abs()) => number.to_string(),
        Value::Float(number) => format!("{number:e}"),
        Value::Boolean(is) => is.to_string(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(|item| shown(&item.value)).collect::<Vec<_>>().join(", "),
        Value::Table(entries) => {
            let pair = |entry: &Entry| format!("{} = {}", entry.key, shown(&entry.node.value));
            format!("{{ {} }}", entries.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(recipes: &[&str]) -> Vec<(String, Vec<String>)> {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        let row = |row: Difference| (row.key, row.values.into_iter().map(shown).collect());
        differences(recipes).unwrap().into_iter().map(row).collect()
    }

    fn row(key: &str, values: &[&str]) -> (String, Vec<String>) {
        (key.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn only_what_differs_is_told() {
        let one = "seed = 0\n[optimizer]\nlr = 1e-3\nbeta = 0.9\n[stop]\nmax_steps = 4\n[eval]\nlimit = 4\n";
        let other = "seed = 0\n[optimizer]\nlr = 0.00002\nbeta = 0.90\n[stop]\nbelow = 0.5\nmax_steps = 4\n[eval]\n\
                     limit = 9\n";
        assert_eq!(
            rows(&[one, other]),
            // `below` stands where the second recipe has it.
            [
                row("optimizer.lr", &["0.001", "2e-5"]),
                row("stop.below", &["–", "0.5"]),
                row("eval.limit", &["4", "9"])
            ]
        );
        assert!(rows(&[one, one, one]).is_empty());
        assert_eq!(rows(&[one, one, other])[0], row("optimizer.lr", &["0.001", "0.001", "2e-5"]));
    }

    #[test]
    fn a_slot_is_its_own_key() {
        let of = |forget: &str| format!("[unlearn]\nforget = {forget}\n");
        let [ga, npo, plain] = [of("{ name = \"ga\" }"), of("{ name = \"npo\", beta = 0.1 }"), of("\"ga\"")];
        assert_eq!(
            rows(&[&ga, &npo]),
            [row("unlearn.forget", &["ga", "npo"]), row("unlearn.forget.beta", &["–", "0.1"])]
        );
        assert!(rows(&[&ga, &plain]).is_empty());
    }

    #[test]
    fn arms_are_compared_by_their_names_and_not_by_their_places() {
        let arm = |rule: &str, more: &str| format!("[[compare]]\ncombine = {{ name = \"{rule}\" }}\n{more}");
        let one = arm("sum", "lr = 0.5\n") + &arm("sago", "");
        let other = arm("sago", "") + &arm("sum", "lr = 0.25\n") + &arm("sago", "name = \"slow\"\n");
        assert_eq!(
            rows(&[&one, &other]),
            [
                row("compare", &["sum, sago", "sago, sum, slow"]),
                row("compare.sum.lr", &["0.5", "0.25"]),
                row("compare.slow.combine", &["–", "sago"]),
            ]
        );
    }

    #[test]
    fn lists_are_readable() {
        let none = "attack = []\ntargets = [\"q\", \"v\"]\n";
        let twice = "targets = []\n[[attack]]\nname = \"relearn\"\nsteps = 4\n[[attack]]\nname = \"relearn\"\nsteps = 9\n";
        let rows = rows(&[none, twice]);
        assert!(rows.contains(&row("attack", &["none", "relearn, relearn-2"])), "{rows:?}");
        assert!(rows.contains(&row("attack.relearn-2.steps", &["–", "9"])), "{rows:?}");
        assert!(rows.contains(&row("targets", &["q, v", "none"])), "{rows:?}");
    }

    #[test]
    fn the_damaged_one_is_told() {
        let (which, problem) = differences(&["a = 1\n", "a = \n"]).unwrap_err();
        assert!(which == 1 && problem.message.contains("malformed TOML"), "{}", problem.message);
    }
}
