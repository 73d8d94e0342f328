//! Porter's suffix stripper with the extensions NLTK makes to it, which `rouge_score` uses.
//!
//! Source: M. F. Porter, "An algorithm for suffix stripping", *Program* 14(3), 1980. The extensions
//! (mode `NLTK_EXTENSIONS`) are: a dozen irregular forms, words of one or two letters left alone,
//! `ies`/`ied` kept as `ie` in four-letter words, final `y` changed after any consonant, `bli`,
//! `fulli`, `logi` and repeated `alli` in step 2, and two-letter vowel–consonant stems counting as
//! short.

/// The stem of a lower-case ASCII word; other words are returned as they are.
pub fn porter_stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 || !word.is_ascii() {
        return word.to_owned();
    }
    let word = plural(word);
    let word = past_and_participle(&word);
    let word = final_y(&word);
    let word = double_suffix(&word);
    let word = apply(&STEP_3, &word, |stem| measure(stem) > 0);
    let word = single_suffix(&word);
    let word = final_e(&word);
    double_l(word)
}

const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Whether each letter is a consonant: not a vowel, and for `y`, not after a consonant.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        flags.push(match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last().is_none_or(|previous| !previous),
            _ => true,
        });
    }
    flags
}

/// Porter's m: how often a vowel is followed by a consonant.
fn measure(stem: &str) -> usize {
    consonants(stem).windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn has_vowel(stem: &str) -> bool {
    consonants(stem).contains(&false)
}

/// Condition *d.
fn ends_in_double_consonant(word: &str) -> bool {
    let letters = word.as_bytes();
    let n = letters.len();
    n >= 2 && letters[n - 1] == letters[n - 2] && consonants(word)[n - 1]
}

/// Condition *o: consonant, vowel, consonant other than w, x, y; in NLTK also a two-letter stem of
/// vowel and consonant.
fn ends_short(word: &str) -> bool {
    let flags = consonants(word);
    match flags.as_slice() {
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

/// Suffixes with their replacement, in the order in which they are tried.
type Rules<const N: usize> = [(&'static str, &'static str); N];

/// The first rule whose suffix fits decides, whether or not its condition on the stem holds.
fn apply<const N: usize>(rules: &Rules<N>, word: &str, condition: impl Fn(&str) -> bool) -> String {
    for (suffix, replacement) in rules {
        if let Some(stem) = word.strip_suffix(suffix) {
            return if condition(stem) { format!("{stem}{replacement}") } else { word.to_owned() };
        }
    }
    word.to_owned()
}

/// Step 1a.
fn plural(word: &str) -> String {
    if word.len() == 4 && word.ends_with("ies") {
        return word[..3].to_owned();
    }
    apply(&[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")], word, |_| true)
}

/// Step 1b.
fn past_and_participle(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word.to_owned() };
    }
    let stripped =
        ["ed", "ing"].into_iter().filter_map(|suffix| word.strip_suffix(suffix)).find(|stem| has_vowel(stem));
    let Some(stem) = stripped else { return word.to_owned() };
    if ["at", "bl", "iz"].iter().any(|ending| stem.ends_with(ending)) {
        return format!("{stem}e");
    }
    if ends_in_double_consonant(stem) {
        let keep = if stem.ends_with(['l', 's', 'z']) { stem.len() } else { stem.len() - 1 };
        return stem[..keep].to_owned();
    }
    let e = if measure(stem) == 1 && ends_short(stem) { "e" } else { "" };
    format!("{stem}{e}")
}

/// Step 1c, as NLTK changed it: `enjoy` keeps its y, `fly` does not.
fn final_y(word: &str) -> String {
    apply(&[("y", "i")], word, |stem| stem.len() > 1 && consonants(stem).last() == Some(&true))
}

/// Step 2.
fn double_suffix(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli")
        && measure(stem) > 0
    {
        return double_suffix(&format!("{stem}al"));
    }
    // NLTK measures the stem of this rule with the l that stays.
    if let Some(stem) = word.strip_suffix("logi") {
        return if measure(&word[..stem.len() + 1]) > 0 { format!("{stem}log") } else { word.to_owned() };
    }
    apply(&STEP_2, word, |stem| measure(stem) > 0)
}

const STEP_2: Rules<21> = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: Rules<7> = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Step 4.
fn single_suffix(word: &str) -> String {
    for suffix in STEP_4 {
        if let Some(stem) = word.strip_suffix(suffix) {
            let allowed = suffix != "ion" || stem.ends_with(['s', 't']);
            return if allowed && measure(stem) > 1 { stem } else { word }.to_owned();
        }
    }
    word.to_owned()
}

const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti", "ous", "ive", "ize",
];

/// Step 5a.
fn final_e(word: &str) -> String {
    apply(&[("e", "")], word, |stem| match measure(stem) {
        0 => false,
        1 => !ends_short(stem),
        _ => true,
    })
}

/// Step 5b.
fn double_l(mut word: String) -> String {
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and stems from NLTK 3.9 (`PorterStemmer().stem`), at least one per rule and extension.
    const NLTK: &[(&str, &str)] = &[
        ("caresses", "caress"),
        ("ponies", "poni"),
        ("ties", "tie"),
        ("dies", "die"),
        ("caress", "caress"),
        ("cats", "cat"),
        ("feed", "feed"),
        ("agreed", "agre"),
        ("plastered", "plaster"),
        ("bled", "bled"),
        ("motoring", "motor"),
        ("sing", "sing"),
        ("conflated", "conflat"),
        ("troubled", "troubl"),
        ("sized", "size"),
        ("hopping", "hop"),
        ("tanned", "tan"),
        ("falling", "fall"),
        ("hissing", "hiss"),
        ("fizzed", "fizz"),
        ("failing", "fail"),
        ("filing", "file"),
        ("happy", "happi"),
        ("sky", "sky"),
        ("enjoy", "enjoy"),
        ("fly", "fli"),
        ("spied", "spi"),
        ("tried", "tri"),
        ("tied", "tie"),
        ("relational", "relat"),
        ("conditional", "condit"),
        ("rational", "ration"),
        ("valenci", "valenc"),
        ("hesitanci", "hesit"),
        ("digitizer", "digit"),
        ("conformabli", "conform"),
        ("radically", "radic"),
        ("differently", "differ"),
        ("vilely", "vile"),
        ("analogously", "analog"),
        ("vietnamization", "vietnam"),
        ("predication", "predic"),
        ("operator", "oper"),
        ("feudalism", "feudal"),
        ("decisiveness", "decis"),
        ("hopefulness", "hope"),
        ("callousness", "callous"),
        ("formality", "formal"),
        ("sensitivity", "sensit"),
        ("sensibility", "sensibl"),
        ("triplicate", "triplic"),
        ("formative", "form"),
        ("formalize", "formal"),
        ("electricity", "electr"),
        ("electrical", "electr"),
        ("hopeful", "hope"),
        ("goodness", "good"),
        ("revival", "reviv"),
        ("allowance", "allow"),
        ("inference", "infer"),
        ("airliner", "airlin"),
        ("gyroscopic", "gyroscop"),
        ("adjustable", "adjust"),
        ("defensible", "defens"),
        ("irritant", "irrit"),
        ("replacement", "replac"),
        ("adjustment", "adjust"),
        ("dependent", "depend"),
        ("adoption", "adopt"),
        ("homologous", "homolog"),
        ("communism", "commun"),
        ("activate", "activ"),
        ("angularity", "angular"),
        ("effective", "effect"),
        ("bowdlerize", "bowdler"),
        ("probate", "probat"),
        ("rate", "rate"),
        ("cease", "ceas"),
        ("controlling", "control"),
        ("roll", "roll"),
        ("skies", "sky"),
        ("dying", "die"),
        ("lying", "lie"),
        ("tying", "tie"),
        ("news", "news"),
        ("innings", "inning"),
        ("outings", "outing"),
        ("canning", "canning"),
        ("howe", "howe"),
        ("proceed", "proceed"),
        ("exceed", "exceed"),
        ("succeed", "succeed"),
        ("nationally", "nation"),
        ("dutifully", "duti"),
        ("biology", "biolog"),
        ("theology", "theolog"),
        ("yearly", "yearli"),
        ("syzygy", "syzygi"),
        ("ions", "ion"),
        ("mission", "mission"),
        ("owed", "owe"),
        ("using", "use"),
        ("iced", "ice"),
        ("oxen", "oxen"),
        ("generously", "gener"),
        ("internationally", "intern"),
        ("archaeology", "archaeolog"),
        ("logi", "logi"),
        ("1991s", "1991"),
        ("yyyying", "yyyi"),
        ("apology", "apolog"),
        ("possibly", "possibl"),
    ];

    #[test]
    fn stems_are_those_of_nltk() {
        for (word, stem) in NLTK {
            assert_eq!(porter_stem(word), *stem, "{word}");
        }
    }

    #[test]
    fn any_input_is_survived() {
        for word in [
            "",
            "s",
            "ies",
            "ied",
            "eed",
            "ed",
            "ing",
            "y",
            "yyyy",
            "ss",
            "alli",
            "logi",
            "ion",
            "naïveness",
            "2019s",
        ] {
            porter_stem(word);
        }
    }
}
