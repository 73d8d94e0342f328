//! The engine from outside. One binary, because every further one links the engine again.

#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

mod checkpoint;
mod constrained;
#[path = "../../../../tests/data.rs"]
mod data;
mod encoder_parity;
mod encoders;
mod exactness;
mod experts;
mod families;
mod gguf;
mod heads;
mod images;
mod json_schema;
mod parity;
mod precision;
mod small_models;
mod tokenizer;
mod training;
