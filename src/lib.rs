//! mirra

pub mod net;
pub mod protocol;
