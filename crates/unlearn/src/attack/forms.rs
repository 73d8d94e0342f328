//! A model in several forms, each asked about the forget set: what attacks share that change weights without training.

use amend_engine::Model;
use amend_learn::Result;
use amend_run::{Figure, Run};

use super::Findings;
use crate::context::Context;
use crate::measure::{Said, ask_of_forget, recalled};

/// Questions shown of the form that gives most away.
pub(super) const SAMPLES: usize = 8;

/// What one form of a model gives away of the forget set.
pub(super) struct Form {
    /// What is said of it after a figure's name: `int4`, `block 3 left out`.
    pub(super) name: String,
    /// How much of the answers it has; see [`recalled`].
    pub(super) figures: Vec<(&'static str, Figure)>,
    said: Vec<Said>,
}

impl Form {
    /// Asks a model, with free answers of so many tokens at most.
    pub(super) fn ask(
        name: &str,
        model: &Model,
        context: &Context<'_>,
        max_new_tokens: usize,
    ) -> Result<Self> {
        let (set, said) = ask_of_forget(model, context, max_new_tokens)?;
        Ok(Form { name: name.to_owned(), figures: recalled(&set), said })
    }

    /// One of its figures.
    pub(super) fn figure(&self, name: &str) -> Option<Figure> {
        self.figures.iter().find(|(known, _)| *known == name).map(|(_, figure)| *figure)
    }
}

/// Makes a model in the forms of these names, one at a time, and asks each; first the model itself, under its own name.
pub(super) fn ask_all(
    run: &Run<'_>,
    (model, as_it_is): (&Model, &str),
    names: &[String],
    make: &dyn Fn(usize) -> Result<Model>,
    context: &Context<'_>,
    max_new_tokens: usize,
) -> Result<Vec<Form>> {
    let mut bar = run.progress.begin(run.stage()?, names.len() as u64 + 1, "models");
    let mut all = vec![Form::ask(as_it_is, model, context, max_new_tokens)?];
    bar.advance(1, as_it_is);
    for (index, name) in names.iter().enumerate() {
        all.push(Form::ask(name, &make(index)?, context, max_new_tokens)?);
        bar.advance(1, name);
    }
    bar.finish(&format!("{} models", all.len()));
    Ok(all)
}

/// What the forms after the first, which is the model as it is, gave away: of every figure the largest, and what the form
/// that gave most away said.
pub(super) fn findings(reading: String, forms: &[Form]) -> Findings {
    let Some((as_it_is, changed)) = forms.split_first() else { return Findings::default() };
    let named = |(name, figure): &(&str, Figure)| ((*name).to_owned(), *figure);
    let largest = |(name, before): &(&'static str, Figure)| {
        let of_forms = changed.iter().filter_map(|form| form.figure(name));
        let largest = of_forms.filter(|f| f.value.is_finite()).max_by(|a, b| a.value.total_cmp(&b.value));
        ((*name).to_owned(), largest.unwrap_or(Figure { value: f64::NAN, ..*before }))
    };
    Findings {
        reading,
        figures: as_it_is.figures.iter().map(largest).collect(),
        before: as_it_is.figures.iter().map(named).collect(),
        samples: most_telling(forms)
            .map_or_else(Vec::new, |most| forms[most].said.iter().take(SAMPLES).cloned().collect()),
        ..Findings::default()
    }
}

/// The place of the form, of those after the first, that has most of the answers; the first of equals.
pub(super) fn most_telling(forms: &[Form]) -> Option<usize> {
    let of = |place: usize, name| {
        forms[place].figure(name).map_or(0.0, |figure| if figure.value.is_nan() { 0.0 } else { figure.value })
    };
    (1..forms.len()).max_by(|&a, &b| {
        let by = |name| of(a, name).total_cmp(&of(b, name));
        by("accuracy").then(by("probability")).then(b.cmp(&a))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(name: &str, accuracy: f64, said: &str) -> Form {
        let said = Said { question: "Who?".into(), expected: "Ann".into(), answer: said.into() };
        Form { name: name.into(), figures: vec![("accuracy", Figure::exact(accuracy, 4))], said: vec![said] }
    }

    #[test]
    fn the_form_that_gives_most_away_counts_and_speaks() {
        let forms = [
            form("as it is", 0.9, "a"),
            form("int4", 0.5, "b"),
            form("int8", 0.25, "c"),
            form("nf4", f64::NAN, "d"),
        ];
        let found = findings("How it is read.".into(), &forms);
        assert_eq!(found.figures, [("accuracy".to_owned(), Figure::exact(0.5, 4))]);
        assert_eq!(found.start("accuracy"), Some(Figure::exact(0.9, 4)));
        assert_eq!(found.samples[0].answer, "b");
        // Of a model that was never put into another form, nothing is known.
        assert!(findings(String::new(), &forms[..1]).figures[0].1.value.is_nan());
    }
}
