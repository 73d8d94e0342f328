//! Where in a recipe a key belongs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::shape::Schema;

/// How deep keys are looked for.
const DEPTH: usize = 6;

/// The dotted paths under which a recipe of this schema has a key of this name, those nearest to the top. Options of a
/// slot's fillers are left out, because they are there for one filler and not for another, and so are items of lists,
/// because there may be none.
pub fn places_of(schema: &Value, key: &str) -> Vec<String> {
    let root = Schema { root: schema };
    let mut tables = BTreeMap::from([(String::new(), schema)]);
    for _ in 0..DEPTH {
        let mut inner = BTreeMap::new();
        let mut found = Vec::new();
        for (path, table) in &tables {
            for shape in root.shapes(table).iter().filter(|shape| shape.tag("name").is_none()) {
                for (name, schema) in &shape.properties {
                    let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
                    if *name == key && !found.contains(&path) {
                        found.push(path.clone());
                    }
                    inner.insert(path, *schema);
                }
            }
        }
        if !found.is_empty() || inner.is_empty() {
            return found;
        }
        tables = inner;
    }
    Vec::new()
}
