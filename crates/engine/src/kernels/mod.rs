//! The arithmetic: the only module with `unsafe` code besides the memory map.
