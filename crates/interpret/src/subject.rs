//! The tokens that a subject is made of.

use std::ops::Range;

use amend_engine::tokenizer::{Encoded, Tokenizer};
use amend_engine::{Error, Result};

/// The positions of the tokens that stand for the bytes `subject` of a text, in what a tokenizer made of the text. The
/// last of them is where a model has read the whole subject and nothing else.
///
/// # Errors
/// Where no token stands for the subject, or its last token goes on beyond it: then there is no place at which the
/// subject ends.
pub fn subject_tokens(text: &str, encoded: &Encoded, subject: Range<usize>) -> Result<Range<usize>> {
    let of_text =
        |(position, bytes): (usize, &Range<usize>)| (!bytes.is_empty()).then(|| (position, bytes.clone()));
    let tokens = || encoded.offsets.iter().enumerate().filter_map(of_text);
    let named = text.get(subject.clone()).unwrap_or_default();
    let first = tokens().find(|(_, bytes)| bytes.end > subject.start && bytes.start < subject.end);
    let last = tokens().rfind(|(_, bytes)| bytes.start < subject.end && bytes.end >= subject.end);
    let (Some((first, _)), Some((last, bytes))) = (first, last) else {
        return Err(Error::invalid(format!(
            "no token of {text:?} stands for the end of the subject {named:?}"
        )));
    };
    if bytes.end > subject.end {
        let joined = text.get(bytes).unwrap_or_default();
        return Err(Error::invalid(format!(
            "the tokenizer makes one token, {joined:?}, of the end of the subject {named:?} and what follows it in \
             {text:?}; end the subject where a token ends, or leave the record out"
        )));
    }
    Ok(first..last + 1)
}

/// A text as token ids with what is put around a text, and the positions of a subject's tokens in it.
///
/// # Errors
/// As [`subject_tokens`]; a text that cannot be made into tokens.
pub fn encode_with_subject(
    tokenizer: &Tokenizer,
    text: &str,
    subject: Range<usize>,
) -> Result<(Vec<u32>, Range<usize>)> {
    let encoded = tokenizer.encode_offsets(text, true)?;
    let positions = subject_tokens(text, &encoded, subject)?;
    Ok((encoded.ids, positions))
}

#[cfg(test)]
mod tests {
    use amend_engine::tokenizer::train_bpe;

    use super::*;

    fn encoded(offsets: &[Range<usize>]) -> Encoded {
        Encoded { ids: (0..offsets.len() as u32).collect(), offsets: offsets.to_vec() }
    }

    #[test]
    fn a_subject_is_the_tokens_from_its_first_byte_to_its_last() {
        // "<s>", "Ann", " Lee", " sings"; the second with a space before it.
        let text = "Ann Lee sings";
        let tokens = encoded(&[0..0, 0..3, 3..7, 7..13]);
        assert_eq!(subject_tokens(text, &tokens, 0..7).unwrap(), 1..3);
        assert_eq!(subject_tokens(text, &tokens, 4..7).unwrap(), 2..3, "the space before it is the token's");
        // Several tokens of one character share its range: the last of them ends it.
        assert_eq!(subject_tokens("é x", &encoded(&[0..2, 0..2, 2..4]), 0..2).unwrap(), 0..2);
    }

    #[test]
    fn a_token_that_goes_beyond_the_subject_is_refused_by_name() {
        let error = subject_tokens("Ann Lees", &encoded(&[0..3, 3..8]), 0..7).unwrap_err().to_string();
        assert!(error.contains("\" Lees\"") && error.contains("\"Ann Lee\""), "{error}");
        assert!(
            subject_tokens("Ann", &encoded(std::slice::from_ref(&(0..0))), 0..3).is_err(),
            "no token at all"
        );
    }

    #[test]
    fn what_stands_before_a_subject_moves_it() {
        let tokenizer = train_bpe(["Ann Lee sings. Bob Ray plays."].into_iter(), 300, &[]).unwrap();
        let at = |before: &str| {
            let text = format!("{before}Ann Lee sings");
            let subject = before.len()..before.len() + 7;
            let (ids, positions) = encode_with_subject(&tokenizer, &text, subject).unwrap();
            (ids.len(), positions.end, tokenizer.decode(&ids[positions], true).unwrap().trim().to_owned())
        };
        let (alone, after) = (at(""), at("Bob Ray plays. "));
        assert_eq!((alone.2.as_str(), after.2.as_str()), ("Ann Lee", "Ann Lee"));
        assert_eq!(alone.0 - alone.1, after.0 - after.1, "what follows it is the same");
    }
}
