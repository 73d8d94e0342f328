//! Perplexity on WikiText.

use std::collections::BTreeMap;
use std::path::Path;

use amend_learn::{Error, Result};
use amend_run::Figure;
use amend_run::records::{ReadOptions, Row, Rows, TextUnit, text_of};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::item::{Item, Items, Sample, Scores};
use crate::request::{Answer, Request};
use crate::stats::ratio_of_sums;
use crate::summary::Summary;

/// # What it does
/// Asks how likely every article of WikiText is, as a whole and in the spelling of ordinary text, and reports
/// perplexities per word and per byte. They do not depend on the tokenizer, so that models can be compared.
///
/// # When to use it
/// To see whether a change has harmed the model's language in general. Texts of the training data tell nothing.
///
/// # What it logs
/// `word_perplexity` = exp(−Σ log p / Σ words), `byte_perplexity` = exp(−Σ log p / Σ bytes), `bits_per_byte` =
/// −Σ log p / (Σ bytes · ln 2); words and bytes are those of the articles as the file has them. Each item logs its
/// own `logprob` (nats), `words` and `bytes`. Standard errors are of first order, with articles as the cases.
///
/// # Source
/// Merity et al. 2016, Pointer Sentinel Mixture Models, arXiv 1609.07843; the measure is the task `wikitext` of
/// lm-evaluation-harness 0.4: its respelling, its windows, its way to count words.
///
/// # Inferred parts
/// Articles are cut from the data set's token files at their titles, which upstream reads from a data set that is
/// cut already. Upstream resamples for standard errors.
///
/// # Expected result
/// Numbers above 1, the smaller the better; the same ones at any batch size and number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WikiText {
    /// The file of the data folder that is read: the data set's tokens as plain text, or JSON lines with the
    /// articles as `page`.
    pub file: String,
    /// Articles asked at most; the first ones. Absent: all.
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
}

impl Default for WikiText {
    fn default() -> Self {
        WikiText { file: "wiki.test.tokens".into(), limit: None }
    }
}

impl Task for WikiText {
    fn items(&self, data: &Path) -> Result<Items> {
        let path = data.join(&self.file);
        let whole = ReadOptions { text_unit: TextUnit::WholeFile, ..ReadOptions::default() };
        let read = Rows::read(&[&path], &whole)?;
        let mut pages = Vec::new();
        for (number, row) in read.rows.iter().enumerate() {
            match (text_of(row, "page"), text_of(row, "text")) {
                (Some(page), _) => pages.push(page.to_owned()),
                (None, Some(tokens)) => pages.extend(articles(tokens)),
                (None, None) => {
                    let place = format!("{}: record {}", path.display(), number + 1);
                    return Err(Error::invalid(format!("{place} has no text; give it a column `page`")));
                }
            }
        }
        pages.truncate(self.limit.unwrap_or(usize::MAX));
        let item = |(index, page): (usize, String)| Item {
            set: String::new(),
            id: index.to_string(),
            row: Row::from_iter([("page".to_owned(), page.into())]),
        };
        let sha256 = BTreeMap::from([(self.file.clone(), read.sha256())]);
        Ok(Items { items: pages.into_iter().enumerate().map(item).collect(), sha256 })
    }

    fn requests(&self, item: &Item) -> Result<Vec<Request>> {
        Ok(vec![Request::Rolling(respelled(page(item)?)?)])
    }

    fn score(&self, item: &Item, answers: &[Answer]) -> Result<Scores> {
        let [Answer::Likelihood(likelihood)] = answers else {
            return Err(Error::invalid(format!("article {}: the answer is no likelihood", item.id)));
        };
        let page = page(item)?;
        // Upstream counts what lies between runs of white space, the empty strings at both ends included.
        let words = pattern(r"\s+")?.split(page).count();
        Ok(Scores::from([
            ("logprob".to_owned(), likelihood.logprob()),
            ("words".to_owned(), words as f64),
            ("bytes".to_owned(), page.len() as f64),
        ]))
    }

    fn aggregate(&self, samples: &[Sample], _reference: Option<&[Sample]>) -> Summary {
        let nats: Vec<f64> = samples.iter().map(|sample| -sample.score("logprob")).collect();
        let per = |unit: &str| {
            let units: Vec<f64> = samples.iter().map(|sample| sample.score(unit)).collect();
            ratio_of_sums(&nats, &units).map_err(|error| format!("not computable: {error}"))
        };
        let perplexity = |per_unit: Figure| {
            let value = per_unit.value.exp();
            Figure { value, stderr: per_unit.stderr.map(|stderr| value * stderr), ..per_unit }
        };
        let bits = |nats: Figure| Figure {
            value: nats.value / std::f64::consts::LN_2,
            stderr: nats.stderr.map(|stderr| stderr / std::f64::consts::LN_2),
            ..nats
        };
        let mut summary = Summary::default();
        summary.add("word_perplexity", per("words").map(perplexity));
        summary.add("byte_perplexity", per("bytes").map(perplexity));
        summary.add("bits_per_byte", per("bytes").map(bits));
        summary
    }
}

fn page(item: &Item) -> Result<&str> {
    text_of(&item.row, "page")
        .ok_or_else(|| Error::invalid(format!("article {} has no column `page`", item.id)))
}

/// The articles of the data set's token files. A title stands alone between single `=`; headings have more.
fn articles(tokens: &str) -> Vec<String> {
    let mut articles: Vec<String> = Vec::new();
    for line in tokens.split_inclusive('\n') {
        match articles.last_mut() {
            Some(article) if !is_title(line) => article.push_str(line),
            _ => articles.push(line.to_owned()),
        }
    }
    articles.retain(|article| !article.trim().is_empty());
    articles
}

fn is_title(line: &str) -> bool {
    let inside = line.trim().strip_prefix("= ").and_then(|rest| rest.strip_suffix(" ="));
    inside.is_some_and(|title| !title.starts_with('=') && !title.ends_with('='))
}

/// The article in the spelling of ordinary text: what the data set's tokenisation did to it is undone, in the
/// order and with the peculiarities of the harness.
fn respelled(page: &str) -> Result<String> {
    const NUMBERS_AND_PUNCTUATION: [(&str, &str); 9] = [
        (" @-@ ", "-"),
        (" @,@ ", ","),
        (" @.@ ", "."),
        (" : ", ": "),
        (" ; ", "; "),
        (" . ", ". "),
        (" ! ", "! "),
        (" ? ", "? "),
        (" , ", ", "),
    ];
    const PAIRS: [(&str, &str); 5] = [
        (r"\(\s*([^\)]*?)\s*\)", "($1)"),
        (r"\[\s*([^\]]*?)\s*\]", "[$1]"),
        (r"\{\s*([^}]*?)\s*\}", "{$1}"),
        (r#""\s*([^"]*?)\s*""#, "\"$1\""),
        (r"'\s*([^']*?)\s*'", "'$1'"),
    ];
    const REST: [(&str, &str); 8] = [
        ("= = = =", "===="),
        ("= = =", "==="),
        ("= =", "=="),
        (" \u{b0} ", "\u{b0}"),
        (" \n", "\n"),
        ("\n ", "\n"),
        (" N ", " 1 "),
        (" 's", "'s"),
    ];
    let replaced = |text: String, pairs: &[(&str, &str)]| {
        pairs.iter().fold(text, |text, (from, to)| text.replace(from, to))
    };
    let mut text = page.replace("s '", "s'");
    text = pattern("/' [0-9]/")?.replace_all(&text, "/'[0-9]/").into_owned();
    text = replaced(text, &NUMBERS_AND_PUNCTUATION);
    for (from, to) in PAIRS {
        text = pattern(from)?.replace_all(&text, to).into_owned();
    }
    Ok(replaced(text, &REST))
}

fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| Error::invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_ordinary_text() {
        let page = " = Gold = \n \n It cost 3 @.@ 5 million ( about £ 2 @,@ 000 ) , Ann 's father said : \" no \" . \n \
                    = = Later = = \n At 20 ° C the dogs ' bowl , a well @-@ known one , broke ! ";
        let text = " = Gold =\n\nIt cost 3.5 million (about £ 2,000), Ann's father said: \"no\".\n\
                    == Later ==\nAt 20°C the dogs' bowl, a well-known one, broke! ";
        assert_eq!(respelled(page).unwrap(), text);
    }

    #[test]
    fn articles_begin_at_titles_and_not_at_headings() {
        let tokens = " \n = One = \n \n text \n = = Part = = \n more \n = Two ( 2 ) = \n = = = Deep = = = \n";
        let found = articles(tokens);
        assert_eq!(
            found,
            [" = One = \n \n text \n = = Part = = \n more \n", " = Two ( 2 ) = \n = = = Deep = = = \n"]
        );
        assert_eq!(articles("no title \n = One = \n").len(), 2);
    }

    #[test]
    fn perplexities_of_known_likelihoods() {
        let task = WikiText::default();
        let sample = |page: &str, logprobs: &[f32]| {
            let row = Row::from_iter([("page".to_owned(), page.into())]);
            let item = Item { set: String::new(), id: page.len().to_string(), row };
            let likelihood =
                crate::Likelihood { logprobs: logprobs.to_vec(), greedy: vec![false; logprobs.len()] };
            let answers = vec![Answer::Likelihood(likelihood)];
            let scores = task.score(&item, &answers).unwrap();
            Sample { item, answers, scores }
        };
        // 5 + 2 words, 7 + 3 bytes, 6 nats.
        let samples = [sample(" a b c\n", &[-1.0, -2.0]), sample("d e", &[-3.0])];
        let summary = task.aggregate(&samples, None);
        let value = |name: &str| summary.figure(name).unwrap().value;
        assert_eq!(
            samples[0].score("words"),
            5.0,
            "an empty string before the first word and after the last"
        );
        assert!((value("word_perplexity") - (6.0f64 / 7.0).exp()).abs() < 1e-12);
        assert!((value("byte_perplexity") - (6.0f64 / 10.0).exp()).abs() < 1e-12);
        assert!((value("bits_per_byte") - 0.6 / 2f64.ln()).abs() < 1e-12);
        assert_eq!(summary.figure("bits_per_byte").unwrap().n, 2);
    }
}
