//! The recipes the program carries with it.

use amend_run::recipe::Starter;

/// What `amend new unlearn` prints, the usual one first.
pub(crate) const STARTERS: &[Starter] = &[
    Starter {
        name: "plain",
        summary: "every section with its usual values",
        text: include_str!("starters/plain.toml"),
    },
    Starter {
        name: "lora",
        summary: "in an adapter: little memory, can be taken off again",
        text: include_str!("starters/lora.toml"),
    },
    Starter {
        name: "compare",
        summary: "several ways side by side, at matched forgetting",
        text: include_str!("starters/compare.toml"),
    },
    Starter {
        name: "tofu",
        summary: "the TOFU benchmark with its own figures",
        text: include_str!("starters/tofu.toml"),
    },
    Starter { name: "attack", summary: "a model that forgot elsewhere, attacked and measured", text: ATTACK },
];

/// What `amend attack` fills in and runs.
pub const ATTACK: &str = include_str!("starters/attack.toml");

/// What `amend demo` runs.
pub const DEMO: &str = include_str!("../../../recipes/demo.toml");
