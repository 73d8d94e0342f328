//! Checkpoints: Hugging Face folders, GGUF files and adapter folders, read by memory map and written
//! atomically.
//!
//! What is written here loads unchanged in Python (`transformers`, `safetensors`, `peft`) and in
//! llama.cpp. Pickle files are never opened: reading one executes the program it contains.

mod adapter;
mod atomic;
mod convert;
mod folder;
mod gguf;
mod header;
mod mmap;
mod rounding;
mod safetensors;
mod source;
mod stored;
mod write;
mod write_model;

pub(crate) use adapter::{adapter_config, adapter_weights, write_adapter};
pub use atomic::write_atomic;
pub use convert::write_folder;
pub use gguf::{GgufFile, GgufType, WrittenTensor, write_gguf};
pub(crate) use gguf::{TokenizerFiles, tokenizer_files};
pub use header::TensorInfo;
pub use rounding::Rounding;
pub use safetensors::SafetensorsFile;
pub use source::Checkpoint;
pub use stored::StoredType;
pub use write::write_tensors;
pub use write_model::{DEFAULT_SHARD_BYTES, ModelFiles, write_model};
