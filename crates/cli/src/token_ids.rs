//! Token ids on the command line.

use std::path::Path;
use std::str::FromStr;

use crate::error::Error;

/// A list of token ids, written `1,2,3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenIds(pub(crate) Vec<u32>);

impl FromStr for TokenIds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("the list is empty; write token ids like 1,2,3".into());
        }
        let id = |(index, part): (usize, &str)| {
            part.trim().parse().map_err(|_| {
                format!(
                    "item {} is {part:?}, which is no token id; write whole numbers like 1,2,3",
                    index + 1
                )
            })
        };
        text.split(',').enumerate().map(id).collect::<Result<_, _>>().map(TokenIds)
    }
}

/// Fails where an id has no row in the embedding of `model`.
pub(crate) fn check(ids: &[u32], model: &Path, vocabulary: usize) -> Result<(), Error> {
    match ids.iter().position(|&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(index) => Err(Error::told(
            format!(
                "token id {} (item {}) is outside of the vocabulary of {}",
                ids[index],
                index + 1,
                model.display()
            ),
            format!(
                "the model has {vocabulary} tokens, so ids go from 0 to {}",
                vocabulary.saturating_sub(1)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_mistakes_are_named() {
        assert_eq!("1, 2,3".parse(), Ok(TokenIds(vec![1, 2, 3])));
        for (text, wanted) in
            [("1,2,x", "item 3 is \"x\""), ("1,,2", "item 2"), ("-1", "item 1"), ("", "empty")]
        {
            let error = text.parse::<TokenIds>().unwrap_err();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        assert!("99999999999".parse::<TokenIds>().is_err());
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_named() {
        assert!(check(&[0, 255], Path::new("m"), 256).is_ok());
        let error = check(&[0, 256], Path::new("m"), 256).unwrap_err().to_string();
        assert!(error.contains("token id 256 (item 2) is outside of the vocabulary of m"), "{error}");
    }
}
