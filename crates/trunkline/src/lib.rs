//! Trunkline as a library: its settings, and the one place where its parts are put together.

pub mod settings;
pub mod wire;
