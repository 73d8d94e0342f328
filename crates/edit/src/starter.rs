//! The recipes the program carries with it.

use amend_run::recipe::Starter;

/// What `amend new edit` prints, the usual one first.
pub(crate) const STARTERS: &[Starter] = &[
    Starter {
        name: "plain",
        summary: "facts of one's own, one after the other",
        text: include_str!("starters/plain.toml"),
    },
    Starter {
        name: "counterfact",
        summary: "the CounterFact benchmark, each edit alone",
        text: include_str!("starters/counterfact.toml"),
    },
];
