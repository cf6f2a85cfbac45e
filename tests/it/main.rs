//! mirra
mod channel;
