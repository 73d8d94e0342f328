//! The valid word that a mistyped one was probably meant to be.

/// The candidate nearest to `word`, or `None` where nothing is near enough to be worth suggesting.
///
/// Distance is the number of letters inserted, removed, changed or swapped, ignoring case and treating `-` and
/// `_` as the same letter. About a third of the word may differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing a whole pasted paragraph with every key would be quadratic in its length and help nobody.
    if word.len() > 200 {
        return None;
    }
    let plain = |s: &str| s.to_lowercase().replace('-', "_");
    let wanted = plain(word);
    let reach = (wanted.chars().count() / 3).max(1) + 1;
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= reach.min(candidate.chars().count()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint under an error about an unknown word: the nearest candidate, then all of them.
pub(crate) fn hint(word: &str, what: &str, candidates: &[&str]) -> String {
    let all = candidates.join(", ");
    match nearest(word, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {what}: {all}"),
        None => format!("{what}: {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_typing_errors_and_nothing_else() {
        assert_eq!(nearest("betta", ["alpha", "beta"]), Some("beta"));
        assert_eq!(nearest("learning-rate", ["learning_rate", "rate"]), Some("learning_rate"));
        assert_eq!(nearest("stpes", ["seed", "steps"]), Some("steps"));
        assert_eq!(nearest("temperature", ["beta", "steps"]), None);
        assert_eq!(nearest("", ["beta"]), None);
    }
}
