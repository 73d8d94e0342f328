//! Checkpoints: Hugging Face folders and PEFT adapters, read by memory map and written atomically.
//!
//! What is written here loads unchanged in Python (`transformers`, `safetensors`, `peft`). Pickle
//! files are never opened: reading one executes the program it contains.

mod atomic;
mod folder;
mod header;
mod json;
mod mmap;
mod peft;
mod peft_config;
mod safetensors;
mod stored;
mod write;
mod write_model;

pub use atomic::write_atomic;
pub use folder::Checkpoint;
pub use header::TensorInfo;
pub(crate) use json::{read_object_if_there, to_pretty_bytes};
pub use peft::{Adapter, LowRank};
pub use safetensors::SafetensorsFile;
pub use stored::StoredType;
pub use write::write_tensors;
pub use write_model::{DEFAULT_SHARD_BYTES, ModelFiles, write_model};
