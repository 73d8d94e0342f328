//! Model cards: a report in short beside the weights, as hubs read it.

use std::path::{Path, PathBuf};

use super::Report;
use crate::file::{FileError, write_atomic};

/// The card of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The model's folder.
    pub folder: PathBuf,
    /// The library that loads it: `transformers`, `peft`.
    pub library: String,
    /// Words that it is found by.
    pub tags: Vec<String>,
    /// What there is to say.
    pub report: Report,
}

impl Card {
    /// Writes `README.md` into the model's folder.
    ///
    /// # Errors
    /// Where it cannot be written; names the file.
    pub fn write(&self) -> Result<(), FileError> {
        write_atomic(&self.path(), self.text().as_bytes())
    }

    fn path(&self) -> PathBuf {
        Path::new(&self.folder).join("README.md")
    }

    fn text(&self) -> String {
        let tags: String = self.tags.iter().map(|tag| format!("- {tag}\n")).collect();
        format!("---\nlibrary_name: {}\ntags:\n{tags}---\n\n{}", self.library, self.report.to_markdown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_begins_with_what_hubs_read() {
        let folder = tempfile::tempdir().unwrap();
        let card = Card {
            folder: folder.path().to_path_buf(),
            library: "peft".into(),
            tags: vec!["unlearning".into()],
            report: Report::new("A model"),
        };
        card.write().unwrap();
        let text = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
        assert_eq!(text, "---\nlibrary_name: peft\ntags:\n- unlearning\n---\n\n# A model\n");
    }
}
