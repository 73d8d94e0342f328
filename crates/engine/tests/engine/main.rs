//! The engine from outside. One binary, because every further one links the engine again.

#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod adapters;
mod checkpoint;
mod constrained;
#[path = "../../../../tests/data.rs"]
mod data;
mod encoder_parity;
mod encoders;
mod exactness;
mod expert_choice;
mod experts;
mod families;
mod gguf;
mod heads;
mod images;
mod joined;
mod json_schema;
mod left_out;
mod loss;
mod modules;
mod parity;
mod parts;
mod precision;
mod sessions;
mod shift_ffn;
mod sites;
mod small_models;
mod soft_tokens;
mod started;
mod steering;
mod stored_types;
mod taps;
mod tokenizer;
mod training;
mod visibility;
mod weight_grid;
