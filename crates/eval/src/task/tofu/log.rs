//! The official aggregated log: one JSON object per set, one column per measurement, one value per
//! item index.

use std::path::Path;

use amend_run::file::write_atomic;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{TofuItem, TofuLogError};

/// One of the benchmark's four sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TofuSet {
    /// Authors to be remembered.
    Retain,
    /// Authors who exist.
    RealAuthors,
    /// Common knowledge.
    WorldFacts,
    /// Authors to be forgotten.
    Forget,
}

impl TofuSet {
    /// All of them, in the official order.
    pub const ALL: [TofuSet; 4] =
        [TofuSet::Retain, TofuSet::RealAuthors, TofuSet::WorldFacts, TofuSet::Forget];

    /// The set's key in the aggregated log.
    pub fn key(self) -> &'static str {
        match self {
            TofuSet::Retain => "eval_log.json",
            TofuSet::RealAuthors => "eval_real_author_wo_options.json",
            TofuSet::WorldFacts => "eval_real_world_wo_options.json",
            TofuSet::Forget => "eval_log_forget.json",
        }
    }

    /// The set's name in what this program writes.
    pub fn name(self) -> &'static str {
        match self {
            TofuSet::Retain => "retain",
            TofuSet::RealAuthors => "real_authors",
            TofuSet::WorldFacts => "world_facts",
            TofuSet::Forget => "forget",
        }
    }

    /// The set of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// Whether the set's probability is the one among given choices.
    pub fn is_multiple_choice(self) -> bool {
        matches!(self, TofuSet::RealAuthors | TofuSet::WorldFacts)
    }
}

/// A whole log. A set that was not evaluated is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TofuLog {
    /// Authors to be remembered.
    pub retain: Option<Vec<TofuItem>>,
    /// Authors who exist.
    pub real_authors: Option<Vec<TofuItem>>,
    /// Common knowledge.
    pub world_facts: Option<Vec<TofuItem>>,
    /// Authors to be forgotten.
    pub forget: Option<Vec<TofuItem>>,
}

impl TofuLog {
    /// The items of a set.
    pub fn set(&self, set: TofuSet) -> Option<&[TofuItem]> {
        match set {
            TofuSet::Retain => self.retain.as_deref(),
            TofuSet::RealAuthors => self.real_authors.as_deref(),
            TofuSet::WorldFacts => self.world_facts.as_deref(),
            TofuSet::Forget => self.forget.as_deref(),
        }
    }

    /// The place of a set's items.
    pub fn set_mut(&mut self, set: TofuSet) -> &mut Option<Vec<TofuItem>> {
        match set {
            TofuSet::Retain => &mut self.retain,
            TofuSet::RealAuthors => &mut self.real_authors,
            TofuSet::WorldFacts => &mut self.world_facts,
            TofuSet::Forget => &mut self.forget,
        }
    }

    /// Reads an official aggregated log.
    ///
    /// # Errors
    /// When the file is not there, is no JSON, has none of the sets, or a set's column is missing,
    /// incomplete or of another type. Columns that the scores do not need may be absent; columns of
    /// other names are ignored.
    pub fn read(path: &Path) -> Result<TofuLog, TofuLogError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TofuLogError::Read { path: path.to_owned(), source })?;
        TofuLog::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<TofuLog, TofuLogError> {
        let sets: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| TofuLogError::Json { path: path.to_owned(), detail: explain(text, &error) })?;
        let mut log = TofuLog::default();
        for set in TofuSet::ALL {
            if let Some(columns) = sets.get(set.key()) {
                *log.set_mut(set) = Some(Columns { path, set: set.key(), columns }.items()?);
            }
        }
        if log == TofuLog::default() {
            return Err(no_sets(path, &sets));
        }
        Ok(log)
    }

    /// The log as the official JSON value; what is not finite becomes null.
    pub fn to_json(&self) -> Value {
        let sets = TofuSet::ALL.into_iter().filter_map(|set| Some((set.key(), self.set(set)?)));
        Value::Object(sets.map(|(key, items)| (key.to_owned(), columns(items))).collect())
    }

    /// Writes the log as the official scripts do.
    ///
    /// # Errors
    /// When a measurement is not finite, or the folder cannot be written to.
    pub fn write(&self, path: &Path) -> Result<(), TofuLogError> {
        let json = self.to_json();
        if let Some([set, key, item]) = not_finite(&json) {
            return Err(TofuLogError::NotFinite { path: path.to_owned(), set, key, item });
        }
        Ok(write_atomic(path, json.to_string().as_bytes())?)
    }
}

/// Set, column and item of the first null, which is what a NaN or an infinity becomes.
fn not_finite(log: &Value) -> Option<[String; 3]> {
    let is_null = |value: &Value| match value {
        Value::Array(list) => list.iter().any(Value::is_null),
        value => value.is_null(),
    };
    for (set, columns) in log.as_object()? {
        for (key, column) in columns.as_object()? {
            if let Some((item, _)) = column.as_object()?.iter().find(|(_, value)| is_null(value)) {
                return Some([set.clone(), key.clone(), item.clone()]);
            }
        }
    }
    None
}

/// The JSON error, with the usual cause where Python wrote what JSON does not allow.
fn explain(text: &str, error: &serde_json::Error) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
    if at.starts_with(['N', 'I']) || at.starts_with("-I") {
        return format!("{error}. NaN and Infinity are not JSON; the evaluated model has diverged there");
    }
    error.to_string()
}

fn no_sets(path: &Path, found: &Map<String, Value>) -> TofuLogError {
    let advice = if found.contains_key("avg_gt_loss") {
        "This is the log of a single set; wrap it as {\"eval_log_forget.json\": …} or use the aggregated log"
    } else {
        "Use the file that the official scripts call eval_log_aggregated.json"
    };
    let names: Vec<String> = found.keys().take(6).map(|key| format!("`{key}`")).collect();
    let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    TofuLogError::NoSets { path: path.to_owned(), found, advice }
}

/// A set while it is read.
struct Columns<'a> {
    path: &'a Path,
    set: &'static str,
    columns: &'a Value,
}

const NUMBER: &str = "a number";
const NUMBERS: &str = "a list of numbers, at least one";
const COUNT: &str = "a number of tokens";
const COUNTS: &str = "a list of numbers of tokens";

impl Columns<'_> {
    fn items(&self) -> Result<Vec<TofuItem>, TofuLogError> {
        let indices = self.column("avg_gt_loss")?.ok_or_else(|| self.missing("avg_gt_loss"))?.keys();
        indices.map(|index| self.item(index)).collect()
    }

    fn item(&self, index: &str) -> Result<TofuItem, TofuLogError> {
        let average_perturb_loss: Vec<f64> = self.needed("average_perturb_loss", index, NUMBERS)?;
        if average_perturb_loss.is_empty() {
            return Err(self.value("average_perturb_loss", index, NUMBERS, "[]".to_owned()));
        }
        Ok(TofuItem {
            index: index.to_owned(),
            avg_gt_loss: self.needed("avg_gt_loss", index, NUMBER)?,
            gt_loss: self.optional("gt_loss", index, NUMBER)?,
            num_token_gt: self.optional("num_token_gt", index, COUNT)?,
            generated_text: self.optional(
                "generated_text",
                index,
                "three strings: prompt, generation, right answer",
            )?,
            rouge1_recall: self.optional("rouge1_recall", index, NUMBER)?,
            rouge_l_recall: self.needed("rougeL_recall", index, NUMBER)?,
            average_perturb_loss,
            avg_paraphrased_loss: self.needed("avg_paraphrased_loss", index, NUMBER)?,
            truth_ratio: self.optional("truth_ratio", index, NUMBER)?,
            paraphrased_loss: self.optional("paraphrased_loss", index, NUMBER)?,
            perturb_loss: self.optional("perturb_loss", index, NUMBERS)?,
            num_token_paraphrased: self.optional("num_token_paraphrased", index, COUNT)?,
            num_token_perturb: self.optional("num_token_perturb", index, COUNTS)?,
            normalized_gt_loss: self.optional("normalized_gt_loss", index, NUMBER)?,
        })
    }

    fn needed<T: DeserializeOwned>(
        &self,
        key: &'static str,
        index: &str,
        expected: &'static str,
    ) -> Result<T, TofuLogError> {
        self.optional(key, index, expected)?.ok_or_else(|| self.missing(key))
    }

    /// The item's value, or `None` if the set has no such column at all.
    fn optional<T: DeserializeOwned>(
        &self,
        key: &'static str,
        index: &str,
        expected: &'static str,
    ) -> Result<Option<T>, TofuLogError> {
        let Some(column) = self.column(key)? else { return Ok(None) };
        let value = column.get(index).ok_or_else(|| TofuLogError::MissingItem {
            path: self.path.to_owned(),
            set: self.set,
            key,
            item: index.to_owned(),
        })?;
        match T::deserialize(value) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(self.value(key, index, expected, shortened(value))),
        }
    }

    fn column(&self, key: &'static str) -> Result<Option<&Map<String, Value>>, TofuLogError> {
        let Some(set) = self.columns.as_object() else {
            return Err(self.value("*", "*", "an object of columns", shortened(self.columns)));
        };
        let Some(column) = set.get(key) else { return Ok(None) };
        match column.as_object() {
            Some(column) => Ok(Some(column)),
            None => Err(self.value(key, "*", "an object from item index to value", shortened(column))),
        }
    }

    fn missing(&self, key: &'static str) -> TofuLogError {
        // Older and newer logs differ in the spelling of a column, mostly in case.
        let known = self.columns.as_object().into_iter().flat_map(Map::keys);
        let nearest = known
            .into_iter()
            .find(|other| other.eq_ignore_ascii_case(key) || other.contains(key) || key.contains(*other))
            .map(|other| format!("; did you mean `{other}`?"))
            .unwrap_or_default();
        TofuLogError::MissingKey { path: self.path.to_owned(), set: self.set, key, nearest }
    }

    fn value(&self, key: &'static str, item: &str, expected: &'static str, found: String) -> TofuLogError {
        TofuLogError::Value {
            path: self.path.to_owned(),
            set: self.set,
            key,
            item: item.to_owned(),
            expected,
            found,
        }
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A set in the official shape. A column is written if every item has it, so that what was read is
/// written again.
fn columns(items: &[TofuItem]) -> Value {
    let mut columns = Map::new();
    let mut column = |key: &str, value: &dyn Fn(&TofuItem) -> Option<Value>| {
        let values: Option<Map<String, Value>> =
            items.iter().map(|item| Some((item.index.clone(), value(item)?))).collect();
        if let Some(values) = values {
            columns.insert(key.to_owned(), Value::Object(values));
        }
    };
    column("avg_gt_loss", &|i| Some(json!(i.avg_gt_loss)));
    column("gt_loss", &|i| i.gt_loss.map(|x| json!(x)));
    column("num_token_gt", &|i| i.num_token_gt.map(|x| json!(x)));
    column("generated_text", &|i| i.generated_text.as_ref().map(|x| json!(x)));
    column("rouge1_recall", &|i| i.rouge1_recall.map(|x| json!(x)));
    column("rougeL_recall", &|i| Some(json!(i.rouge_l_recall)));
    column("average_perturb_loss", &|i| Some(json!(i.average_perturb_loss)));
    column("avg_paraphrased_loss", &|i| Some(json!(i.avg_paraphrased_loss)));
    column("truth_ratio", &|i| i.truth_ratio.map(|x| json!(x)));
    column("paraphrased_loss", &|i| i.paraphrased_loss.map(|x| json!(x)));
    column("perturb_loss", &|i| i.perturb_loss.as_ref().map(|x| json!(x)));
    column("num_token_paraphrased", &|i| i.num_token_paraphrased.map(|x| json!(x)));
    column("num_token_perturb", &|i| i.num_token_perturb.as_ref().map(|x| json!(x)));
    column("normalized_gt_loss", &|i| i.normalized_gt_loss.map(|x| json!(x)));
    Value::Object(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: Value) -> Result<TofuLog, TofuLogError> {
        TofuLog::parse(&value.to_string(), Path::new("log.json"))
    }

    fn message(value: Value) -> String {
        parse(value).unwrap_err().to_string()
    }

    fn minimal() -> Value {
        json!({"eval_log_forget.json": {
            "avg_gt_loss": {"0": 1.0}, "rougeL_recall": {"0": 0.5},
            "average_perturb_loss": {"0": [2.0, 3.0]}, "avg_paraphrased_loss": {"0": 1},
        }})
    }

    #[test]
    fn a_log_may_hold_one_set_and_the_needed_columns_only() {
        let log = parse(minimal()).unwrap();
        let items = log.forget.as_deref().unwrap();
        assert_eq!((items.len(), items[0].avg_paraphrased_loss, log.retain.is_none()), (1, 1.0, true));
        assert_eq!(parse(log.to_json()).unwrap(), log);
    }

    #[test]
    fn errors_name_file_set_key_and_item() {
        let with = |key: &str, value: Value| {
            let mut log = minimal();
            log["eval_log_forget.json"][key] = value;
            message(log)
        };
        let text = with("average_perturb_loss", json!({"0": "two"}));
        assert_eq!(
            text,
            "log.json: `eval_log_forget.json` / `average_perturb_loss` / `0` should be a list of numbers, \
             at least one, found \"two\""
        );
        assert!(with("average_perturb_loss", json!({"0": []})).contains("at least one, found []"));
        assert!(with("rougeL_recall", json!({"1": 0.5})).contains("`rougeL_recall` has no item `0`"));
        assert!(with("gt_loss", json!([1.0])).contains("an object from item index to value"));
        let mut log = minimal();
        let set = log["eval_log_forget.json"].as_object_mut().unwrap();
        let column = set.remove("rougeL_recall").unwrap();
        set.insert("rougel_recall".to_owned(), column);
        let text = message(log);
        assert!(text.contains("has no `rougeL_recall`") && text.contains("did you mean `rougel_recall`?"));
    }

    #[test]
    fn other_files_are_recognised() {
        let text = message(minimal()["eval_log_forget.json"].clone());
        assert!(text.contains("the log of a single set"), "{text}");
        assert!(message(json!({"a": 1})).contains("its keys are `a`"));
        let diverged = "{\"eval_log.json\": {\"avg_gt_loss\": {\"0\": NaN}}}";
        let text = TofuLog::parse(diverged, Path::new("log.json")).unwrap_err().to_string();
        assert!(text.contains("the evaluated model has diverged"), "{text}");
    }

    #[test]
    fn written_logs_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.json");
        let log = parse(minimal()).unwrap();
        log.write(&path).unwrap();
        assert_eq!(TofuLog::read(&path).unwrap(), log);
        assert!(TofuLog::read(&folder.path().join("none.json")).is_err());
        // A file that cannot be replaced leaves no half of another one behind.
        std::fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(log.write(&folder.path().join("taken")).unwrap_err().to_string().contains("taken"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let mut diverged = log.clone();
        diverged.forget.as_mut().unwrap()[0].average_perturb_loss[1] = f64::NAN;
        let text = diverged.write(&path).unwrap_err().to_string();
        assert!(
            text.contains("`eval_log_forget.json` / `average_perturb_loss` / `0` is not finite"),
            "{text}"
        );
    }
}
